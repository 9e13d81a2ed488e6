-- A dead-lettered event has a dead letter.
select 'a dead-lettered event has a dead letter' as rule,
  format('company %s %s event %s', m.company_id, m.processor, m.event_id) as detail
from secretaria.event_outcomes m
left join secretaria.dead_letters l
  on l.company_id = m.company_id and l.processor = m.processor and l.event_id = m.event_id
where m.state = 'dead_lettered' and l.event_id is null;
