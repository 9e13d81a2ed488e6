-- Every fresh record has a mark.
-- A range of offsets counts as so many marks.
select 'every fresh record has a mark' as law,
  format('%s %s/%s: fresh %s, marks %s', processor, topic, partition, coalesce(c.fresh, 0), coalesce(m.marks, 0))
    as detail
from secretaria.consumer_offsets o
left join (
  select processor, topic, partition, sum(fresh)::bigint as fresh
  from secretaria.intake_counts
  group by processor, topic, partition
) c using (processor, topic, partition)
left join (
  select processor, topic, partition, sum(marks)::bigint as marks
  from (
    select processor, topic, partition, count(*)::bigint as marks
    from secretaria.event_marks
    group by processor, topic, partition
    union all
    select processor, topic, partition, done + ignored + parked
    from secretaria.event_ranges
  ) each
  group by processor, topic, partition
) m using (processor, topic, partition)
where coalesce(c.fresh, 0) <> coalesce(m.marks, 0);
