-- What every installation sells from the first day on.
set local role secretaria_owner;

insert into secretaria.features_catalog (feature, name, kind, reset, fact, always_on)
values
  ('whatsapp_messages', 'WhatsApp messages sent', 'metered', 'month', 'message_out', false),
  ('ai_tokens', 'Tokens read and written by the model', 'metered', 'month', 'model_tokens', false),
  ('agents', 'People who answer', 'metered', 'never', null, false),
  ('ai_replies', 'Replies written by the model', 'boolean', 'never', null, false),
  ('reminders', 'Appointment reminders', 'boolean', 'never', null, false),
  ('analytics_export', 'Reports as files', 'boolean', 'never', null, false),
  ('data_export', 'The company''s own data as files', 'boolean', 'never', null, true),
  ('support_level', 'Support', 'static', 'never', null, false);

insert into secretaria.plans (code, name)
values ('starter', 'Starter');

with starter as (
  insert into secretaria.plan_versions (plan_id, version, price_minor, currency, billing_interval)
  select plan_id, 1, 9900, 'BRL', 'month'
  from secretaria.plans
  where code = 'starter'
  returning plan_version_id
)
insert into secretaria.plan_features (plan_version_id, feature, limit_value, soft, value)
select s.plan_version_id, f.feature, f.limit_value, f.soft, f.value
from starter s
cross join (values
  ('whatsapp_messages', 2000, false, null::jsonb),
  ('ai_tokens', 2000000, false, null),
  ('agents', 3, false, null),
  ('ai_replies', null, false, null),
  ('reminders', null, false, null),
  ('support_level', null, false, '"e-mail"')
) as f (feature, limit_value, soft, value);

update secretaria.plan_versions v
set state = 'published', published_at = now()
from secretaria.plans p
where p.plan_id = v.plan_id
  and p.code = 'starter';

insert into secretaria.ai_model_prices
  (model, since, input_usd_micros, output_usd_micros, cached_usd_micros, brl_micros_per_usd)
values ('gemini-2.5-flash', '2025-06-01', 300000, 2500000, 75000, 5500000);

reset role;
