//! Invariants of the queue's tables between any two transactions.

use crate::tests::database::Database;

/// Each row names a broken invariant.
pub(super) const BROKEN: &str = "
with states as (
  select company_id, queue, job_key, lane, priority, due_at, 'scheduled' as state, keeps_lane as holds_lane,
    keeps_lane as is_head
  from secretaria.jobs_scheduled
  union all
  select company_id, queue, job_key, lane, priority, due_at, 'ready', lane is not null, lane is not null
  from secretaria.jobs_ready
  union all
  select company_id, queue, job_key, lane, priority, due_at, 'waiting', true, false
  from secretaria.jobs_waiting
  union all
  select company_id, queue, job_key, lane, priority, null, 'running', lane is not null, lane is not null
  from secretaria.jobs_running
), lanes as (
  select company_id, queue, lane, count(*) filter (where holds_lane) as jobs, count(*) filter (where is_head) as heads
  from states
  where holds_lane
  group by company_id, queue, lane
)
select format('job %s is in %s tables: %s', job_key, count(p.state), string_agg(p.state, ', '))
from secretaria.jobs j
full join states p using (company_id, queue, job_key)
group by company_id, queue, job_key
having count(p.state) <> 1 or count(j.created_at) <> 1
union all
select format('job %s is %s with another key than its row in jobs', job_key, p.state)
from secretaria.jobs j
join states p using (company_id, queue, job_key)
where (p.lane, p.priority, coalesce(p.due_at, j.due_at)) is distinct from (j.lane, j.priority, j.due_at)
union all
select format('lane %s says %s jobs and has %s, %s of them first', lane, l.jobs, e.jobs, e.heads)
from secretaria.job_lanes l
full join lanes e using (company_id, queue, lane)
where l.jobs is distinct from e.jobs or e.heads <> 1
union all
select format('job %s waits at position %s of a lane whose last position is %s', w.job_key, w.position, l.last_position)
from secretaria.jobs_waiting w
join secretaria.job_lanes l using (company_id, queue, lane)
where w.position > l.last_position";

/// Asserts that the queue's tables are consistent.
#[track_caller]
pub(super) fn is_consistent(database: &Database) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move { assert_eq!(database.rows(BROKEN).await, [""; 0], "{caller}") }
}
