-- A delivery in flight is a row that has not ended.
select 'a delivery in flight is a row that has not ended' as rule,
  format('company %s delivery %s', m.company_id, m.event_id) as detail
from secretaria.event_outcomes m
left join secretaria.deliveries d on d.company_id = m.company_id and d.delivery_id = m.event_id
where m.processor = 'delivery' and m.state = 'in_flight' and (d.delivery_id is null or d.state = 'ended');
