-- Enqueues many jobs at once. A key that is live already is left as it is. The upsert locks lanes in the order of their
-- key; their positions are assigned under that lock, so the order within a lane is the order of the commits.
with asked as materialized (
  select distinct on (company_id, job_key)
    company_id, job_key, lane, priority, coalesce(due_at, now() + make_interval(secs => after_s)) as due_at, body,
    traceparent, ord
  from unnest($2::bigint[], $3::uuid[], $4::uuid[], $5::smallint[], $6::timestamptz[], $7::float8[], $8::jsonb[],
              $9::text[])
    with ordinality as it (company_id, job_key, lane, priority, due_at, after_s, body, traceparent, ord)
  order by company_id, job_key, ord
), added as (
  insert into secretaria.jobs (company_id, queue, job_key, lane, priority, due_at, body, traceparent)
  select company_id, $1, job_key, lane, priority, due_at, body, traceparent
  from asked
  on conflict do nothing
  returning company_id, job_key
), numbered as materialized (
  select a.*, a.due_at <= now() as is_due,
    row_number() over (partition by a.company_id, a.lane, a.due_at <= now() order by a.ord) as nth,
    count(*) over (partition by a.company_id, a.lane, a.due_at <= now()) as of_lane
  from asked a
  join added using (company_id, job_key)
), lanes as (
  insert into secretaria.job_lanes as l (company_id, queue, lane, jobs, last_position)
  select company_id, $1, lane, of_lane, of_lane
  from numbered
  where is_due and lane is not null and nth = 1
  order by company_id, lane
  on conflict (company_id, queue, lane) do update
  set jobs = l.jobs + excluded.jobs, last_position = l.last_position + excluded.last_position
  returning company_id, lane, jobs, last_position
), routed as materialized (
  select p.*, l.last_position - p.of_lane + p.nth as position,
    p.is_due and (p.lane is null or (p.nth = 1 and l.jobs = p.of_lane)) as is_head
  from numbered p
  left join lanes l on p.is_due and l.company_id = p.company_id and l.lane = p.lane
), ready as (
  insert into secretaria.jobs_ready (company_id, queue, priority, due_at, job_key, lane, attempts)
  select company_id, $1, priority, due_at, job_key, lane, 0
  from routed
  where is_head
), waiting as (
  insert into secretaria.jobs_waiting (company_id, queue, lane, position, job_key, priority, due_at)
  select company_id, $1, lane, position, job_key, priority, due_at
  from routed
  where is_due and not is_head
), scheduled as (
  insert into secretaria.jobs_scheduled (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts)
  select $1, due_at, company_id, job_key, lane, false, priority, 0
  from routed
  where not is_due
)
select company_id, job_key, is_head
from routed
