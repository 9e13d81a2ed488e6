-- Moves due jobs out of jobs_scheduled: to ready, or behind the other jobs of their lane. One that kept its lane is first
-- in it, and one that was held back keeps the instant at which it first became due.
with due as materialized (
  select ctid as row_id, company_id, job_key, due_at, lane, keeps_lane, priority, attempts, first_due_at
  from secretaria.jobs_scheduled
  where queue = $1 and due_at <= now()
  order by due_at
  limit $2
  for update skip locked
), removed as (
  delete from secretaria.jobs_scheduled
  where ctid = any (array(select row_id from due))
), numbered as materialized (
  select d.*,
    row_number() over (partition by d.company_id, d.lane, d.keeps_lane order by d.due_at, d.job_key) as nth,
    count(*) over (partition by d.company_id, d.lane, d.keeps_lane) as of_lane
  from due d
), lanes as (
  insert into secretaria.job_lanes as l (company_id, queue, lane, jobs, last_position)
  select company_id, $1, lane, of_lane, of_lane
  from numbered
  where lane is not null and not keeps_lane and nth = 1
  order by company_id, lane
  on conflict (company_id, queue, lane) do update
  set jobs = l.jobs + excluded.jobs, last_position = l.last_position + excluded.last_position
  returning company_id, lane, jobs, last_position
), routed as materialized (
  select p.*, l.last_position - p.of_lane + p.nth as position,
    p.lane is null or p.keeps_lane or (p.nth = 1 and l.jobs = p.of_lane) as is_head
  from numbered p
  left join lanes l on not p.keeps_lane and l.company_id = p.company_id and l.lane = p.lane
), ready as (
  insert into secretaria.jobs_ready (company_id, queue, priority, due_at, job_key, lane, attempts)
  select company_id, $1, priority, coalesce(first_due_at, due_at), job_key, lane, attempts
  from routed
  where is_head
), held_back as (
  update secretaria.jobs j
  set due_at = r.first_due_at
  from routed r
  where r.first_due_at is not null and j.company_id = r.company_id and j.queue = $1 and j.job_key = r.job_key
), waiting as (
  insert into secretaria.jobs_waiting (company_id, queue, lane, position, job_key, priority, due_at)
  select company_id, $1, lane, position, job_key, priority, due_at
  from routed
  where not is_head
)
select company_id, is_head
from routed
