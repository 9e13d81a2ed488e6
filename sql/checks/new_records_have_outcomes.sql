-- Every admitted record has an outcome.
-- A range of offsets counts as so many outcomes.
select 'every admitted record has an outcome' as rule,
  format('%s %s/%s: admitted %s, outcomes %s', processor, topic, partition, coalesce(c.admitted, 0), coalesce(m.outcomes, 0))
    as detail
from secretaria.consumer_offsets o
left join (
  select processor, topic, partition, sum(admitted)::bigint as admitted
  from secretaria.consumer_counts
  group by processor, topic, partition
) c using (processor, topic, partition)
left join (
  select processor, topic, partition, sum(outcomes)::bigint as outcomes
  from (
    select processor, topic, partition, count(*)::bigint as outcomes
    from secretaria.event_outcomes
    group by processor, topic, partition
    union all
    select processor, topic, partition, done + ignored + dead_lettered
    from secretaria.event_ranges
  ) each
  group by processor, topic, partition
) m using (processor, topic, partition)
where coalesce(c.admitted, 0) <> coalesce(m.outcomes, 0);
