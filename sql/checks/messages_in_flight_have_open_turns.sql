-- A message in flight is in a turn that has not ended.
select 'a message in flight is in a turn that has not ended' as rule,
  format('company %s event %s', m.company_id, m.event_id) as detail
from secretaria.event_outcomes m
left join secretaria.messages g on g.company_id = m.company_id and g.message_id = m.event_id
left join secretaria.turns t on t.company_id = g.company_id and t.turn_id = g.turn_id
where m.processor = 'reply' and m.state = 'in_flight' and (t.turn_id is null or t.state = 'ended');
