-- Ranges follow one another up to the committed offset.
select 'ranges follow one another up to the committed offset' as rule,
  format('%s %s/%s: a range begins at %s, due was %s', processor, topic, partition, first_offset, due) as detail
from (
  select o.processor, o.topic, o.partition, g.first_offset,
    coalesce(lag(g.last_offset + 1) over ranges, o.first_offset) as due
  from secretaria.consumer_offsets o
  join (
    select processor, topic, partition, first_offset, last_offset from secretaria.event_ranges
    union all
    -- Where the next one will begin.
    select c.processor, c.topic, c.partition, c.next_offset, c.next_offset
    from secretaria.consumer_offsets c
    where exists (select from secretaria.event_ranges r where r.processor = c.processor)
  ) g using (processor, topic, partition)
  window ranges as (partition by o.processor, o.topic, o.partition order by g.first_offset)
) each
where first_offset <> due;
