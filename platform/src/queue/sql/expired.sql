-- Expired leases, locked, so that only one transaction at a time reclaims each.
select r.company_id, r.job_key, r.fence, r.lane, r.priority, r.due_at, r.attempts, j.body, j.traceparent,
  extract(epoch from now() - r.due_at)::float8
from secretaria.jobs_running r
join secretaria.jobs j using (company_id, queue, job_key)
where r.queue = $1 and r.lease_until < now()
order by r.lease_until
limit $2
for update of r skip locked
