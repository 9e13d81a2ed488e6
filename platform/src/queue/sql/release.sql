-- The first step of an end: the lease is given up, and only what is returned may have a result.
delete from secretaria.jobs_running r
using unnest($2::bigint[], $3::uuid[], $4::bigint[]) as k (company_id, job_key, fence)
where r.company_id = k.company_id and r.queue = $1 and r.job_key = k.job_key and r.fence = k.fence
returning r.company_id, r.job_key, r.fence
