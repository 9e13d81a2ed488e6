-- A lease that is not returned is lost.
update secretaria.jobs_running r
set lease_until = now() + make_interval(secs => $6), progress_permille = coalesce(k.progress, r.progress_permille)
from unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::smallint[]) as k (company_id, job_key, fence, progress)
where r.company_id = k.company_id and r.queue = $1 and r.job_key = k.job_key and r.fence = k.fence
returning r.company_id, r.job_key, r.fence, r.cancel_requested
