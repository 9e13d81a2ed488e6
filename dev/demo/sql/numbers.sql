-- Every number of company $1 that only grows: a run's part is the difference. Names match those of `expectation.rs`.
with marks as (
  select processor, state, reason, count(*) as events
  from secretaria.event_marks
  where company_id = $1
  group by processor, state, reason
), counts as (
  select processor, sum(records)::bigint as records, sum(duplicates)::bigint as duplicates
  from secretaria.intake_counts
  where company_id = $1
  group by processor
), ledger as (
  select coalesce(fact, feature) as booked, count(*) as lines, sum(tokens_in)::bigint as tokens_in,
    sum(tokens_out)::bigint as tokens_out, sum(tokens_cached)::bigint as tokens_cached
  from secretaria.usage_events
  where company_id = $1
  group by coalesce(fact, feature)
)
select processor || ': read' as name, records as value
from counts
union all
select processor || ': duplicates', duplicates
from counts
union all
select processor || ': ' || state, sum(events)::bigint
from marks
group by processor, state
union all
select processor || ': ignored as ' || reason, events
from marks
where state = 'ignored'
union all
select 'dead letters: ' || processor || ' ' || cause, count(*)
from secretaria.dead_letters
where company_id = $1
  and state = 'parked'
group by processor, cause
union all
select 'ledger: ' || booked, lines
from ledger
union all
select 'ledger: tokens_in', coalesce(sum(tokens_in), 0)::bigint
from ledger
union all
select 'ledger: tokens_out', coalesce(sum(tokens_out), 0)::bigint
from ledger
union all
select 'ledger: tokens_cached', coalesce(sum(tokens_cached), 0)::bigint
from ledger
union all
select 'plan: ' || feature, used
from entitlements($1)
where feature_kind = 'metered'
  and allowed;
