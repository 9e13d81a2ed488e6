-- A job and the row of its state say the same.
-- The row of a job that is not running is found by the lane, the priority and the instant that `jobs` says.
select 'a job and the row of its state say the same' as rule,
  format('company %s %s job %s is %s', company_id, queue, job_key, p.place) as detail
from secretaria.jobs j
join (
  select company_id, queue, job_key, lane, priority, due_at, 'scheduled' as place from secretaria.jobs_scheduled
  union all
  select company_id, queue, job_key, lane, priority, due_at, 'ready' from secretaria.jobs_ready
  union all
  select company_id, queue, job_key, lane, priority, due_at, 'waiting' from secretaria.jobs_waiting
  union all
  select company_id, queue, job_key, lane, priority, null, 'running' from secretaria.jobs_running
) p using (company_id, queue, job_key)
where (p.lane, p.priority, coalesce(p.due_at, j.due_at)) is distinct from (j.lane, j.priority, j.due_at);
