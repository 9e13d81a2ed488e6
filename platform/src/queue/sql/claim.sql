-- Claims at most $7 jobs among the companies offered: the next slot goes to the company with the fewest jobs in flight
-- for its weight. Rows of jobs_ready are only inserted and deleted, so a locked row's ctid does not change.
with offered as materialized (
  select c.company_id, c.ord, c.max_jobs, c.before, coalesce(l.weight, 1)::float8 as weight,
    coalesce(l.max_running, $5::integer) as max_running,
    (select count(*)::integer
     from secretaria.jobs_running r
     where r.company_id = c.company_id and r.queue = $1) as running
  from unnest($2::bigint[], $3::integer[], $4::timestamptz[])
    with ordinality as c (company_id, max_jobs, before, ord)
  left join secretaria.queue_limits l on l.company_id = c.company_id and l.queue = $1
  where not exists (
    select from secretaria.queue_pauses p where p.queue = $1 and p.company_id in (0, c.company_id))
), candidates as materialized (
  select j.row_id, j.company_id, j.priority, j.due_at, j.job_key, j.lane, j.attempts, o.ord,
    (o.running - 1 + row_number() over (partition by j.company_id order by j.priority, j.due_at, j.job_key)) / o.weight
      as load
  from offered o
  cross join lateral (
    select r.ctid as row_id, r.company_id, r.priority, r.due_at, r.job_key, r.lane, r.attempts
    from secretaria.jobs_ready r
    where r.company_id = o.company_id and r.queue = $1 and r.due_at <= o.before
    order by r.priority, r.due_at, r.job_key
    limit greatest(0, least(o.max_jobs, o.max_running - o.running))
    for update skip locked
  ) j
), chosen as materialized (
  select *
  from candidates
  order by load, ord
  limit $7
), removed as (
  delete from secretaria.jobs_ready
  where ctid = any (array(select row_id from chosen))
), leased as (
  insert into secretaria.jobs_running
    (company_id, queue, job_key, fence, lane, priority, due_at, attempts, claimed_by, lease_until)
  select company_id, $1, job_key, nextval('secretaria.lease_fences'), lane, priority, due_at, attempts + 1, $6,
    now() + make_interval(secs => $8)
  from chosen
  returning company_id, job_key, fence, lane, priority, due_at, attempts
)
select l.company_id, l.job_key, l.fence, l.lane, l.priority, l.due_at, l.attempts, j.body, j.traceparent,
  extract(epoch from now() - l.due_at)::float8
from leased l
cross join lateral (
  select body, traceparent
  from secretaria.jobs j
  where j.company_id = l.company_id and j.queue = $1 and j.job_key = l.job_key
  offset 0
) j
order by l.fence
