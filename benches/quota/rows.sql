-- Companies with twenty metered features f1 … f20, under one plan, some with overrides, and keys to ask for.
set session_replication_role = replica;

drop schema if exists bench cascade;
create schema bench;

truncate secretaria.feature_usage, secretaria.subscriptions, secretaria.company_overrides, secretaria.usage_events,
  secretaria.usage_totals, secretaria.entitlement_epochs cascade;
delete from secretaria.companies;

insert into secretaria.features_catalog (feature, name, kind, reset)
select 'f' || n, 'Feature ' || n, 'metered', 'month'
from generate_series(1, 20) n
on conflict do nothing;

insert into secretaria.plans (code, name)
values ('bench', 'Bench')
on conflict do nothing;

insert into secretaria.plan_versions (plan_id, version, state, published_at)
select plan_id, 1, 'published', now()
from secretaria.plans
where code = 'bench'
on conflict do nothing;

insert into secretaria.plan_features (plan_version_id, feature, limit_value)
select v.plan_version_id, f.feature, 1000000000
from secretaria.plan_versions v
join secretaria.plans p using (plan_id)
cross join secretaria.features_catalog f
where p.code = 'bench'
on conflict do nothing;

insert into secretaria.companies (company_id, domain, name)
overriding system value
select n, 'c' || n || '.test', 'Company ' || n
from generate_series(1, :companies) n;

insert into secretaria.subscriptions
  (company_id, subscription_id, plan_version_id, status, anchor_at, time_zone)
select n, gen_random_uuid(), v.plan_version_id, 'active', date_trunc('month', now()), 'America/Sao_Paulo'
from generate_series(1, :companies) n
cross join secretaria.plan_versions v
join secretaria.plans p using (plan_id)
where p.code = 'bench';

insert into secretaria.company_overrides (company_id, feature, limit_value, reason)
select n, 'f7', 2000000000, 'bench'
from generate_series(1, :companies, 10) n;

insert into secretaria.entitlement_epochs (company_id)
select n
from generate_series(1, :companies) n;

insert into secretaria.feature_usage
  (company_id, feature, slot, kind, allowed, soft, limit_value, ceiling, used, reason, source, period_start, period_end)
select s.company_id, f.feature, 0, f.kind, true, false, coalesce(o.limit_value, p.limit_value),
  coalesce(o.limit_value, p.limit_value), 17, 'ok', case when o.feature is null then 'plan' else 'override' end,
  t.period_start, t.period_end
from secretaria.subscriptions s
join secretaria.plan_features p using (plan_version_id)
join secretaria.features_catalog f using (feature)
left join secretaria.company_overrides o on o.company_id = s.company_id and o.feature = p.feature
cross join lateral secretaria_reference.current_period(s.anchor_at, 'month', s.time_zone, now()) t
where f.feature ~ '^f\d+$'
order by s.company_id, f.feature;

create table bench.keys as
select 1 + floor(random() * :companies)::bigint as company_id, 'f' || (1 + floor(random() * 20)::int) as feature
from generate_series(1, 400000);

-- The distribution of the checks' keys, to draw others from.
create table bench.zipf as
select n::bigint as company, sum(n ^ -1.07::float) over (order by n) / sum(n ^ -1.07::float) over () as upto
from generate_series(1, :companies) n;
create unique index zipf_upto on bench.zipf (upto) include (company);

set session_replication_role = origin;
