-- Nothing is dropped by the broker before it is read.
select 'nothing is dropped by the broker before it is read' as rule,
  format('%s %s/%s: begun at %s, log began at %s', o.processor, o.topic, o.partition, o.next_offset, e.start_offset)
    as detail
from secretaria.consumer_offsets o
join secretaria.topic_ends e using (topic, partition)
where e.start_offset > o.next_offset;
