-- Leases that are held by this transaction go. A statement of its own: its snapshot sees what the holding waited for, and a
-- locked row is changed by no other transaction, so its ctid stands still.
delete from secretaria.jobs_running
where ctid = any (array(
  select r.row_id
  from unnest($2::bigint[], $3::uuid[]) as k (company_id, job_key)
  cross join lateral (
    select r.ctid as row_id
    from secretaria.jobs_running r
    where r.company_id = k.company_id and r.queue = $1 and r.job_key = k.job_key
    offset 0
  ) r))
