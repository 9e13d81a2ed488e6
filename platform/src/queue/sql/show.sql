-- Jobs of one queue ($1), company ($2), key ($3) or state ($4), where null does not restrict: with their leases, when they
-- are due, and why they died.
select state, queue, company_id, job_key, lane, attempts, due_at, claimed_by, claimed_at, lease_until, cancel_requested,
  progress_permille, cause, detail, died_at
from (
  select 'running' as state, 1 as ord, queue, company_id, job_key, lane, attempts, due_at, null::bigint as position,
    claimed_by, claimed_at, lease_until, cancel_requested, progress_permille, null as cause, null as detail,
    null::timestamptz as died_at
  from secretaria.jobs_running
  union all
  select 'ready', 2, queue, company_id, job_key, lane, attempts, due_at, null, null, null, null, false, null, null, null,
    null
  from secretaria.jobs_ready
  union all
  select 'waiting', 3, queue, company_id, job_key, lane, 0, due_at, position, null, null, null, false, null, null, null,
    null
  from secretaria.jobs_waiting
  union all
  select 'scheduled', 4, queue, company_id, job_key, lane, attempts, due_at, null, null, null, null, false, null, null,
    null, null
  from secretaria.jobs_scheduled
  union all
  select 'dead', 5, queue, company_id, job_key, lane, attempts, null, null, null, null, null, false, null, cause, detail,
    died_at
  from secretaria.jobs_dead
) job
where ($1::text is null or queue = $1)
  and ($2::bigint is null or company_id = $2)
  and ($3::uuid is null or job_key = $3)
  and ($4::text is null or state = $4)
order by ord, due_at, died_at, company_id, lane, position, job_key
limit $5
