-- A turn with a reply is booked.
-- Booking is allowed for while it is on its way, and is looked for a minute later.
select 'a turn with a reply is booked' as rule,
  format('company %s: %s turns with a reply, %s are booked', t.company_id, t.replied, coalesce(u.booked, 0)) as detail
from (
  select company_id, count(*) as replied
  from secretaria.turns
  where outcome in ('replied', 'fallback')
    and ended_at < (select min(seen_at) from secretaria.topic_ends where topic = 'usage.events') - interval '1 minute'
  group by company_id
) t
left join (
  select company_id, count(*) as booked
  from secretaria.usage_events
  where fact = 'message_out'
  group by company_id
) u using (company_id)
where coalesce(u.booked, 0) < t.replied
  and not exists (
    select from secretaria.outbox o where o.company_id = t.company_id and o.topic = 'usage.events')
  and not exists (
    select from secretaria.dead_letters l where l.company_id = t.company_id and l.topic = 'usage.events')
  and not exists (
    select from secretaria.topic_ends e
    left join secretaria.consumer_offsets c
      on c.processor = 'metering' and c.topic = e.topic and c.partition = e.partition
    where e.topic = 'usage.events' and e.end_offset > coalesce(c.next_offset, e.start_offset));
