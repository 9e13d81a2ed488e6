-- The first step of ending attempts: locks leases until the commit; only the results of those returned are valid. Looks
-- them up key by key, as in `settle`, whatever table size the planner expects.
select r.company_id, r.job_key, r.fence
from unnest($2::bigint[], $3::uuid[], $4::bigint[]) as k (company_id, job_key, fence)
cross join lateral (
  select r.company_id, r.job_key, r.fence
  from secretaria.jobs_running r
  where r.company_id = k.company_id and r.queue = $1 and r.job_key = k.job_key and r.fence = k.fence
  offset 0
  for update of r
) r
