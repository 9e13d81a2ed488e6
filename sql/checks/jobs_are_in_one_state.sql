-- A job is in one state.
-- Scheduled, ready, waiting and running are tables: a row of `jobs` has one row in one of them, and none is without it.
select 'a job is in one state' as rule,
  format('company %s %s job %s: %s, in %s', company_id, queue, job_key,
    case when count(j.created_at) = 0 then 'no row in jobs' else 'live' end,
    coalesce(string_agg(p.place, ' and ' order by p.place), 'none')) as detail
from secretaria.jobs j
full join (
  select company_id, queue, job_key, 'scheduled' as place from secretaria.jobs_scheduled
  union all
  select company_id, queue, job_key, 'ready' from secretaria.jobs_ready
  union all
  select company_id, queue, job_key, 'waiting' from secretaria.jobs_waiting
  union all
  select company_id, queue, job_key, 'running' from secretaria.jobs_running
) p using (company_id, queue, job_key)
group by company_id, queue, job_key
having count(p.place) <> 1 or count(j.created_at) <> 1;
