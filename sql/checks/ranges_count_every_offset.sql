-- A range counts every offset it spans.
select 'a range counts every offset it spans' as rule,
  format('%s %s/%s: range %s to %s counts %s', processor, topic, partition, first_offset, last_offset,
    done + ignored + dead_lettered) as detail
from secretaria.event_ranges
where done + ignored + dead_lettered <> last_offset - first_offset + 1;
