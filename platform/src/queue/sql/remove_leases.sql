-- Deletes leases that this transaction has locked. A statement of its own: its snapshot includes the changes that locking
-- waited for. No other transaction changes a locked row, so its ctid does not change.
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
