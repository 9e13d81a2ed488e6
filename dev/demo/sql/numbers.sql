-- The numbers of company $1. They only grow, and a run's part is the difference; those that begin with `now: ` are what
-- they are. `expectation.rs` says which must come of a run, by the same names.
with outcomes as (
  select processor, state, reason, count(*) as events
  from secretaria.event_outcomes
  where company_id = $1
  group by processor, state, reason
), counts as (
  select processor, sum(records)::bigint as records, sum(duplicates)::bigint as duplicates
  from secretaria.consumer_counts
  where company_id = $1
  group by processor
), ledger as (
  select coalesce(fact, feature) as booked, count(*) as lines, sum(tokens_in)::bigint as tokens_in,
    sum(tokens_out)::bigint as tokens_out, sum(tokens_cached)::bigint as tokens_cached
  from secretaria.usage_events
  where company_id = $1
  group by coalesce(fact, feature)
), plan as (
  select feature, used, remaining, limit_value
  from entitlements($1)
  where feature_kind = 'metered'
    and allowed
), numbers (name, value) as (
  select processor || ': read', records
  from counts
  union all
  -- With ranges of offsets in place of outcomes.
  select processor || ': done', records
  from counts
  where processor in (select r.processor from secretaria.event_ranges r)
  union all
  select processor || ': ignored', duplicates
  from counts
  union all
  select processor || ': ignored as duplicate record', duplicates
  from counts
  union all
  select processor || case state when 'dead_lettered' then ': dead-lettered' else ': ' || state end, events
  from outcomes
  union all
  select processor || ': ignored as ' || reason, events
  from outcomes
  where state = 'ignored'
  union all
  select 'dead letters: ' || processor || ' ' || cause, 1
  from secretaria.dead_letters
  where company_id = $1
    and state = 'waiting'
  union all
  select 'ledger: ' || booked, lines
  from ledger
  union all
  select 'ledger: ' || field, tokens
  from ledger,
    lateral (values ('tokens_in', tokens_in), ('tokens_out', tokens_out), ('tokens_cached', tokens_cached))
      as fields (field, tokens)
  union all
  select 'rollups: ' || measure, amount
  from (
    select sum(messages_received)::bigint as received, sum(messages_in)::bigint as counted_in,
      sum(messages_out)::bigint as counted_out, sum(model_calls)::bigint as calls, sum(turns)::bigint as turns,
      sum(deliveries)::bigint as deliveries
    from secretaria.rollup_days
    where company_id = $1
  ) r,
    lateral (values ('messages_received', received), ('messages_in', counted_in), ('messages_out', counted_out),
      ('model_calls', calls), ('turns', turns), ('deliveries', deliveries)) as measures (measure, amount)
  union all
  select 'plan: ' || feature, used
  from plan
  union all
  select 'now: remaining ' || feature, remaining
  from plan
  union all
  select 'now: limit ' || feature, limit_value
  from plan
)
select name, sum(value)::bigint as value
from numbers
where value is not null
group by name;
