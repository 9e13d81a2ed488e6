-- Who may see and change entitlements: the functions write as a role of their own, a company's role sees its own rows.
do $$
begin
  if not exists (select from pg_roles where rolname = 'secretaria_quota') then
    create role secretaria_quota nologin;
  end if;
exception
  when duplicate_object or unique_violation then null; -- Two databases of one cluster are being migrated at once.
end
$$;

set local role secretaria_owner;

create table secretaria.company_roles (
  company_id bigint not null references secretaria.companies,
  role_name name not null unique,
  primary key (company_id)
);
comment on table secretaria.company_roles is
  'The database role that speaks for a company: what it is depends on who logged in, never on a setting.';

create function secretaria.outer_role()
returns name
language sql
stable
parallel safe
as $$
  select case current_setting('role') when 'none' then session_user::name else current_setting('role')::name end
$$;
comment on function secretaria.outer_role() is
  'Stable; no locks. Who is asking, seen from inside functions that run with rights of their own.';

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array[
    'subscriptions', 'subscription_events', 'company_overrides', 'feature_flags', 'usage_grants', 'audit_logs',
    'entitlement_epochs', 'feature_usage', 'feature_usage_periods', 'usage_reservations', 'usage_openings',
    'ai_usage_by_model', 'company_roles'
  ]
  loop
    execute format('alter table secretaria.%I enable row level security', tenant_table);
    execute format('alter table secretaria.%I force row level security', tenant_table);
    execute format('create policy owner_all on secretaria.%I to secretaria_owner using (true)', tenant_table);
    execute format('create policy quota_all on secretaria.%I to secretaria_quota using (true)', tenant_table);
    execute format(
      'create policy everybody_reads on secretaria.%I for select to secretaria_service, secretaria_operator using (true)',
      tenant_table);
    execute format(
      'create policy company_reads_own on secretaria.%I for select to secretaria_api
       using (company_id = (select secretaria.session_company()))', tenant_table);
    execute format('grant select on secretaria.%I to secretaria_service, secretaria_operator', tenant_table);
    execute format('grant select, insert, update, delete on secretaria.%I to secretaria_quota', tenant_table);
  end loop;
end
$$;

-- The functions book into the ledger and leave alerts in the outbox; they read companies for their zone.
create policy quota_all on secretaria.usage_events to secretaria_quota using (true);
create policy quota_all on secretaria.usage_totals to secretaria_quota using (true);
create policy quota_all on secretaria.outbox to secretaria_quota using (true);
create policy quota_reads on secretaria.companies for select to secretaria_quota using (true);

grant usage
on schema secretaria
to secretaria_quota;

grant select, insert, update, delete
on secretaria.usage_events, secretaria.usage_totals, secretaria.outbox
to secretaria_quota;

grant select
on secretaria.companies
to secretaria_quota;

-- The catalogue is nobody's in particular: all read it, the operator writes it.
grant select
on secretaria.features_catalog, secretaria.plans, secretaria.plan_versions, secretaria.plan_features,
  secretaria.subscription_policies, secretaria.ai_model_prices
to secretaria_service, secretaria_api, secretaria_operator, secretaria_analyst, secretaria_quota;

grant insert, update, delete
on secretaria.features_catalog, secretaria.plans, secretaria.plan_versions, secretaria.plan_features,
  secretaria.ai_model_prices
to secretaria_operator;

-- What is changed for one company alone is the operator's too.
create policy operator_writes on secretaria.company_overrides to secretaria_operator using (true) with check (true);
create policy operator_writes on secretaria.feature_flags to secretaria_operator using (true) with check (true);
grant insert, update, delete
on secretaria.company_overrides, secretaria.feature_flags
to secretaria_operator;

grant select
on secretaria.subscriptions, secretaria.feature_usage, secretaria.feature_usage_periods, secretaria.ai_usage_by_model
to secretaria_api;

reset role;

create schema if not exists secretaria_reference authorization secretaria_owner;

grant usage
on schema secretaria_reference
to secretaria_service, secretaria_api, secretaria_operator, secretaria_analyst, secretaria_quota;

-- Functions of the reference are owned by secretaria_quota where they write.
grant secretaria_quota
to secretaria_owner;
grant create
on schema secretaria_reference
to secretaria_quota;
