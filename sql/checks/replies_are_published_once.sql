-- A turn with a reply has one message, and it was published.
-- Handing on is allowed for while it is on its way, and is looked for a minute later.
select 'a turn with a reply has one message, and it was published' as rule,
  format('company %s turn %s: %s messages', t.company_id, t.turn_id, count(g.message_id)) as detail
from secretaria.turns t
left join secretaria.messages g on g.company_id = t.company_id and g.turn_id = t.turn_id and g.direction = 'out'
left join secretaria.event_outcomes m
  on m.company_id = g.company_id and m.processor = 'delivery' and m.event_id = g.message_id
left join secretaria.outbox o on o.company_id = g.company_id and o.event_id = g.message_id
where t.state = 'ended' and t.outcome in ('replied', 'fallback')
group by t.company_id, t.turn_id
having count(distinct g.message_id) <> 1
  or (bool_or(m.event_id is null and o.event_id is null)
      and not exists (
        select from secretaria.topic_ends e
        left join secretaria.consumer_offsets c
          on c.processor = 'delivery' and c.topic = e.topic and c.partition = e.partition
        where e.topic = 'outbound.messages' and e.end_offset > coalesce(c.next_offset, e.start_offset))
      and max(t.ended_at) < (select min(seen_at) from secretaria.topic_ends where topic = 'outbound.messages')
                            - interval '1 minute');
