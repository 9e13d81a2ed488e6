-- A lane counts its jobs, and one of them is first.
-- First is the job that is ready or running, or that is scheduled and keeps the lane. The others wait behind it.
select 'a lane counts its jobs, and one of them is first' as rule,
  format('company %s %s lane %s: counts %s, has %s, %s of them first, places up to %s of %s', company_id, queue, lane,
    coalesce(l.jobs, 0), coalesce(e.jobs, 0), coalesce(e.heads, 0), e.last_position, l.last_position) as detail
from secretaria.job_lanes l
full join (
  select company_id, queue, lane, count(*) as jobs, count(*) filter (where position is null) as heads,
    max(position) as last_position
  from (
    select company_id, queue, lane, null::bigint as position from secretaria.jobs_scheduled where keeps_lane
    union all
    select company_id, queue, lane, null from secretaria.jobs_ready where lane is not null
    union all
    select company_id, queue, lane, null from secretaria.jobs_running where lane is not null
    union all
    select company_id, queue, lane, position from secretaria.jobs_waiting
  ) p
  group by company_id, queue, lane
) e using (company_id, queue, lane)
where l.jobs is distinct from e.jobs or e.heads <> 1 or e.last_position > l.last_position;
