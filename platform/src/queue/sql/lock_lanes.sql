-- A statement of its own, before `settle`: that one's snapshot is then newer than any job enqueued under the lock.
select
from secretaria.job_lanes l
join (
  select distinct company_id, lane
  from unnest($2::bigint[], $3::uuid[]) as k (company_id, lane)
) k using (company_id, lane)
where l.queue = $1
order by l.company_id, l.lane
for update of l
