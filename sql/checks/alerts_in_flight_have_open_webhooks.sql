-- An alert in flight has a webhook that has not ended.
select 'an alert in flight has a webhook that has not ended' as rule,
  format('company %s event %s', m.company_id, m.event_id) as detail
from secretaria.event_outcomes m
where m.processor = 'alerts'
  and m.state = 'in_flight'
  and not exists (
    select from secretaria.webhook_deliveries d
    where d.company_id = m.company_id and d.event_id = m.event_id and d.state <> 'ended');
