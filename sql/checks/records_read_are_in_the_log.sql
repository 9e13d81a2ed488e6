-- Nothing was read that is not in the log.
-- Where the log ended is compared only with what was read before that was looked at.
select 'nothing was read that is not in the log' as rule,
  format('%s %s/%s: read up to %s, log ended at %s', o.processor, o.topic, o.partition, o.next_offset, e.end_offset)
    as detail
from secretaria.consumer_offsets o
join secretaria.topic_ends e using (topic, partition)
where o.next_offset > e.end_offset and o.moved_at < e.seen_at;
