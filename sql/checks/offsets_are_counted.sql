-- Every offset passed is a record counted.
select 'every offset passed is a record counted' as rule,
  format('%s %s/%s: passed %s, counted %s', processor, topic, partition, moved, records) as detail
from (
  select o.processor, o.topic, o.partition, o.next_offset - o.first_offset as moved, coalesce(c.records, 0) as records
  from secretaria.consumer_offsets o
  left join (
    select processor, topic, partition, sum(records)::bigint as records
    from secretaria.consumer_counts
    group by processor, topic, partition
  ) c using (processor, topic, partition)
) passed
where moved <> records;
