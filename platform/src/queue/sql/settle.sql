-- The last step of ending attempts. Ended jobs are deleted and pass their lane on; the others are scheduled and keep it.
-- Jobs and lanes are looked up key by key, whatever table sizes the planner expects: it must not scan the tables for the
-- keys. No other transaction changes a running job's row or a locked lane, so their ctid does not change.
with settled as materialized (
  select *
  from unnest($2::bigint[], $3::uuid[], $4::uuid[], $5::smallint[], $6::integer[], $7::text[], $8::float8[], $9::text[],
              $10::text[], $11::timestamptz[])
    as k (company_id, job_key, lane, priority, attempts, ending, after_s, cause, detail, first_due_at)
), again as (
  insert into secretaria.jobs_scheduled
    (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts, first_due_at)
  select $1, now() + make_interval(secs => after_s), company_id, job_key, lane, lane is not null, priority, attempts,
    first_due_at
  from settled
  where ending = 'again'
  returning company_id, job_key, due_at
), moved as (
  update secretaria.jobs j
  set due_at = again.due_at
  from again
  where j.company_id = again.company_id and j.queue = $1 and j.job_key = again.job_key
), removed as (
  delete from secretaria.jobs j
  where j.ctid = any (array(
    select j.row_id
    from settled s
    cross join lateral (
      select j.ctid as row_id
      from secretaria.jobs j
      where j.company_id = s.company_id and j.queue = $1 and j.job_key = s.job_key
      offset 0
    ) j
    where s.ending <> 'again'))
  returning j.company_id, j.job_key, j.body, j.traceparent
), dead as (
  insert into secretaria.jobs_dead as d
    (company_id, queue, job_key, lane, body, traceparent, attempts, cause, detail)
  select r.company_id, $1, r.job_key, s.lane, r.body, r.traceparent, s.attempts, s.cause, s.detail
  from removed r
  join settled s using (company_id, job_key)
  where s.ending = 'dead'
  on conflict (company_id, queue, job_key) do update
  set lane = excluded.lane, body = excluded.body, traceparent = excluded.traceparent,
    attempts = d.attempts + excluded.attempts, cause = excluded.cause, detail = excluded.detail, died_at = now()
), left_lanes as materialized (
  select company_id, lane
  from settled
  where ending <> 'again' and lane is not null
), heads as materialized (
  select w.row_id, w.company_id, w.job_key, w.priority, w.due_at, w.lane
  from left_lanes l
  cross join lateral (
    select w.ctid as row_id, w.company_id, w.job_key, w.priority, w.due_at, w.lane
    from secretaria.jobs_waiting w
    where w.company_id = l.company_id and w.queue = $1 and w.lane = l.lane
    order by w.position
    limit 1
  ) w
), popped as (
  delete from secretaria.jobs_waiting
  where ctid = any (array(select row_id from heads))
), ready as (
  insert into secretaria.jobs_ready (company_id, queue, priority, due_at, job_key, lane, attempts)
  select company_id, $1, priority, due_at, job_key, lane, 0
  from heads
  where due_at <= now()
), not_due as (
  insert into secretaria.jobs_scheduled (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts)
  select $1, due_at, company_id, job_key, lane, true, priority, 0
  from heads
  where due_at > now()
), left_rows as materialized (
  select l.row_id, l.jobs
  from left_lanes e
  cross join lateral (
    select l.ctid as row_id, l.jobs
    from secretaria.job_lanes l
    where l.company_id = e.company_id and l.queue = $1 and l.lane = e.lane
    offset 0
  ) l
), shorter as (
  update secretaria.job_lanes
  set jobs = jobs - 1
  where ctid = any (array(select row_id from left_rows where jobs > 1))
), emptied as (
  delete from secretaria.job_lanes
  where ctid = any (array(select row_id from left_rows where jobs = 1))
)
select distinct company_id
from heads
where due_at <= now()
