-- A delivery done was sent, one dead-lettered has a dead letter.
select 'a delivery done was sent, one dead-lettered has a dead letter' as rule,
  format('company %s delivery %s: state %s, outcome %s', m.company_id, m.event_id, m.state, d.outcome) as detail
from secretaria.event_outcomes m
left join secretaria.deliveries d on d.company_id = m.company_id and d.delivery_id = m.event_id
where m.processor = 'delivery'
  and ((m.state = 'done') <> (d.outcome is not distinct from 'sent')
       or (m.state = 'dead_lettered') <> (d.outcome is not distinct from 'failed_permanent') and d.delivery_id is not null);
