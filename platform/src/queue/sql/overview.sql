-- How many jobs are in each state, by queue, and by company where $2 says so. Queues of $3 are listed even when empty.
with jobs as (
  select queue, company_id, 'scheduled' as state, due_at from secretaria.jobs_scheduled
  union all
  select queue, company_id, 'ready', due_at from secretaria.jobs_ready
  union all
  select queue, company_id, 'waiting', due_at from secretaria.jobs_waiting
  union all
  select queue, company_id, 'running', null from secretaria.jobs_running
  union all
  select queue, company_id, 'dead', null from secretaria.jobs_dead
  union all
  select queue, company_id, 'paused', null from secretaria.queue_pauses where company_id <> 0
), counted as (
  select queue, case when $2 then company_id end as company_id,
    count(*) filter (where state = 'scheduled') as scheduled,
    count(*) filter (where state = 'ready') as ready,
    count(*) filter (where state = 'waiting') as waiting,
    count(*) filter (where state = 'running') as running,
    count(*) filter (where state = 'dead') as dead,
    extract(epoch from now() - min(due_at) filter (where due_at <= now()))::float8 as oldest_due_s
  from jobs
  where $1::bigint is null or company_id = $1
  group by 1, 2
), paused as (
  select queue, min(paused_at) filter (where company_id = 0) as paused_at,
    min(paused_by) filter (where company_id = 0) as paused_by,
    count(*) filter (where company_id <> 0) as companies
  from secretaria.queue_pauses
  group by queue
), listed as (
  select queue, ord, coalesce(c.company_id, $1) as company_id, scheduled, ready, waiting, running, dead, oldest_due_s
  from unnest($3::text[]) with ordinality as known (queue, ord)
  full join counted c using (queue)
)
select l.queue, l.company_id, coalesce(l.scheduled, 0), coalesce(l.ready, 0), coalesce(l.waiting, 0),
  coalesce(l.running, 0), coalesce(l.dead, 0), l.oldest_due_s, coalesce(o.paused_at, p.paused_at),
  coalesce(o.paused_by, p.paused_by), case when $2 then 0 else coalesce(p.companies, 0) end
from listed l
left join paused p on p.queue = l.queue
left join secretaria.queue_pauses o on o.queue = l.queue and o.company_id = l.company_id
order by l.ord, l.queue, l.company_id
