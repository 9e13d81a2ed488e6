-- The alerts that company $1 got since $2 about the use of feature $3, as facts by name.
with alerts as (
  select d.event_id, (
    select string_agg(coalesce(a.result, 'under way') || coalesce(' (' || a.class || ')', ''), ', ' order by a.attempt)
    from secretaria.webhook_attempts a
    where a.company_id = d.company_id and a.event_id = d.event_id and a.endpoint = d.endpoint) as attempts
  from secretaria.webhook_deliveries d
  where d.company_id = $1
    and d.created_at >= $2
    and d.endpoint = 'company'
    and d.kind = 'usage_threshold'
    and d.body::jsonb #>> '{data,feature}' = $3
)
select $3 || ': alerts' as name, count(*)::text as value
from alerts
union all
select $3 || ': attempts to deliver the alert', coalesce(string_agg(attempts, '; '), 'none')
from alerts
union all
select 'alert ids', coalesce(string_agg(event_id::text, ' '), '')
from alerts;
