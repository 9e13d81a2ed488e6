-- A lease that is not returned is lost. Locked in the order of the key, as results are committed.
with held as materialized (
  select r.company_id, r.job_key, r.fence, k.progress
  from unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::smallint[]) as k (company_id, job_key, fence, progress)
  join secretaria.jobs_running r using (company_id, job_key, fence)
  where r.queue = $1
  order by r.company_id, r.job_key
  for no key update of r
)
update secretaria.jobs_running r
set lease_until = now() + make_interval(secs => $6), progress_permille = coalesce(held.progress, r.progress_permille)
from held
where r.company_id = held.company_id and r.queue = $1 and r.job_key = held.job_key and r.fence = held.fence
returning r.company_id, r.job_key, r.fence, r.cancel_requested
