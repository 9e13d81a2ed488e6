-- What was accepted and what became of it, per company and processor, in the order of $1. A duplicate record counts as
-- ignored. A processor that accounts by range has no outcomes per company: what it has read is done.
with counted as (
  select company_id, processor, sum(records)::bigint as records, sum(duplicates)::bigint as duplicates,
    sum(replayed)::bigint as replayed
  from secretaria.consumer_counts
  group by company_id, processor
), marked as (
  select company_id, processor, state, coalesce(reason, '') as reason, count(*)::bigint as events
  from secretaria.event_outcomes
  group by company_id, processor, state, coalesce(reason, '')
), by_range as (
  select distinct processor
  from secretaria.event_ranges
), reasons as (
  select company_id, processor, string_agg(reason || ' ' || events, ', ' order by reason) as reasons
  from (
    select company_id, processor, reason, events
    from marked
    where state = 'ignored'
    union all
    select company_id, processor, 'duplicate', duplicates
    from counted
    where duplicates > 0
  ) r
  group by company_id, processor
)
select coalesce(p.domain, 'no company') as company, c.company_id, c.processor, c.records - c.replayed as accepted,
  case
    when c.processor in (select processor from by_range) then c.records
    else coalesce(sum(m.events) filter (where m.state = 'done'), 0)
  end::bigint as done,
  (coalesce(sum(m.events) filter (where m.state = 'ignored'), 0) + c.duplicates)::bigint as ignored,
  coalesce(sum(m.events) filter (where m.state = 'dead_lettered'), 0)::bigint as dead_lettered,
  coalesce(sum(m.events) filter (where m.state = 'in_flight'), 0)::bigint as in_flight,
  c.duplicates, coalesce(r.reasons, '') as reasons
from counted c
left join marked m using (company_id, processor)
left join reasons r using (company_id, processor)
left join secretaria.companies p using (company_id)
group by p.domain, c.company_id, c.processor, c.records, c.replayed, c.duplicates, r.reasons
order by c.company_id, array_position($1::text[], c.processor);
