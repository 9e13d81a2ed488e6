-- A statement of its own, before `settle`, whose snapshot is then newer than any job enqueued under the lock. Locks lane by
-- lane, in the order of the key.
select
from (
  select distinct company_id, lane
  from unnest($2::bigint[], $3::uuid[]) as k (company_id, lane)
  order by company_id, lane
) k
cross join lateral (
  select
  from secretaria.job_lanes l
  where l.company_id = k.company_id and l.queue = $1 and l.lane = k.lane
  offset 0
  for update of l
) l
