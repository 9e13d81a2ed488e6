-- A webhook has a job until it has ended.
-- Either a live one or one that is dead and waits for an operator. A live one is of a webhook that has not ended.
select 'a webhook has a job until it has ended' as rule,
  format('company %s event %s to the %s: %s', company_id, event_id, endpoint,
    case when j.is_live then 'ended or missing, and has a job' else 'no job' end) as detail
from (
  select company_id, event_id::text as event_id, endpoint
  from secretaria.webhook_deliveries
  where state <> 'ended'
) open
full join (
  select company_id, body ->> 'event' as event_id, body ->> 'endpoint' as endpoint, true as is_live
  from secretaria.jobs
  where queue = 'alerts'
  union all
  select company_id, body ->> 'event', body ->> 'endpoint', false
  from secretaria.jobs_dead
  where queue = 'alerts'
) j using (company_id, event_id, endpoint)
where j.is_live is null or open.company_id is null and j.is_live;
