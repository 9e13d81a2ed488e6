-- What the model was used for, month by month, in the words the panel and the reports ask for.

create or replace view secretaria.ai_usage_metrics
with (security_barrier)
as
select u.company_id,
  to_char(u.month, 'YYYY-MM') as month_year,
  sum(u.input_tokens)::bigint as input_tokens,
  sum(u.output_tokens)::bigint as output_tokens,
  sum(u.messages)::bigint as messages_count,
  (sum(u.cost_usd_micros) / 1000000)::numeric(20, 6) as estimated_cost_usd,
  sum(u.cached_tokens)::bigint as cached_tokens,
  (sum(u.cost_brl_micros) / 1000000)::numeric(20, 6) as estimated_cost_brl
from secretaria.ai_usage_by_model u
-- The owner's rights read every row, so the view asks who is asking, as the policies do.
where u.company_id = (
    select case secretaria.outer_role()
      when 'secretaria_api' then secretaria.session_company()
      else (select r.company_id from secretaria.company_roles r where r.role_name = secretaria.outer_role())
    end
  )
  or (
    select exists (
      select
      from pg_catalog.pg_roles r
      where r.rolname = secretaria.outer_role()
        and (r.rolsuper
          or r.rolname in ('secretaria_service', 'secretaria_operator', 'secretaria_owner', 'secretaria_quota'))
    )
  )
group by u.company_id, u.month;
comment on view secretaria.ai_usage_metrics is
  'Per company and month of its own calendar: tokens, messages, and cost in whole dollars and reais. Services and the
operator see every company, the API the one it named, a company''s role its own.';

create or replace view secretaria.current_month_ai_usage
with (security_barrier)
as
select m.company_id,
  m.messages_count,
  m.input_tokens,
  m.output_tokens,
  m.estimated_cost_brl
from secretaria.ai_usage_metrics m
join secretaria.companies c using (company_id)
where m.month_year = to_char(statement_timestamp() at time zone c.time_zone, 'YYYY-MM');
comment on view secretaria.current_month_ai_usage is
  'The month that runs in the company''s own zone; no row before its first use. Seen as ai_usage_metrics is.';

alter view secretaria.ai_usage_metrics owner to secretaria_owner;
alter view secretaria.current_month_ai_usage owner to secretaria_owner;
grant select
on secretaria.ai_usage_metrics, secretaria.current_month_ai_usage
to secretaria_service, secretaria_operator, secretaria_api, secretaria_quota;
