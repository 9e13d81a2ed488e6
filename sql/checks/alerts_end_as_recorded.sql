-- An alert done was delivered, one dead-lettered has a dead letter.
select 'an alert done was delivered, one dead-lettered has a dead letter' as rule,
  format('company %s event %s: state %s, outcomes %s', d.company_id, d.event_id, m.state, d.outcomes) as detail
from (
  select company_id, event_id, string_agg(coalesce(outcome, 'none'), ' ' order by endpoint) as outcomes,
    case
      when not bool_and(state = 'ended') then 'in_flight'
      when bool_or(outcome = 'failed_permanent') then 'dead_lettered'
      when bool_or(outcome = 'delivered') then 'done'
      else 'ignored'
    end as due_state
  from secretaria.webhook_deliveries
  group by company_id, event_id
) d
full join (
  select company_id, event_id, state from secretaria.event_outcomes where processor = 'alerts'
) m using (company_id, event_id)
where case
    when d.event_id is null then m.state = 'done'
    else m.state is distinct from d.due_state
  end;
