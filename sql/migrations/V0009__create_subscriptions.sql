-- What each company bought, what was changed for it alone, and the record of both.
set local role secretaria_owner;

create table secretaria.subscriptions (
  company_id bigint not null references secretaria.companies,
  subscription_id uuid not null,
  plan_version_id bigint not null references secretaria.plan_versions,
  status text not null references secretaria.subscription_policies,
  anchor_at timestamptz not null,
  time_zone text not null,
  trial_ends_at timestamptz,
  grace_until timestamptz,
  cancel_at timestamptz,
  next_plan_version_id bigint references secretaria.plan_versions,
  next_change_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  ended_at timestamptz,
  primary key (company_id, subscription_id),
  check (status <> 'trialing' or trial_ends_at is not null),
  check ((next_plan_version_id is null) = (next_change_at is null))
);
create unique index subscriptions_one_live on secretaria.subscriptions (company_id) where ended_at is null;
comment on column secretaria.subscriptions.anchor_at is
  'Every period is counted from here, in the subscription''s time zone: 31 January, 28 February, 31 March.';
comment on column secretaria.subscriptions.cancel_at is 'The end of the period after which it is over; null: it renews.';
comment on column secretaria.subscriptions.next_plan_version_id is 'The plan it moves to at next_change_at.';

create table secretaria.subscription_events (
  company_id bigint not null,
  event_id uuid not null default gen_random_uuid(),
  subscription_id uuid not null,
  kind text not null check (kind in (
    'created', 'plan_changed', 'plan_change_scheduled', 'status_changed', 'cancel_scheduled', 'canceled', 'resumed')),
  detail jsonb not null default '{}',
  occurred_at timestamptz not null,
  recorded_at timestamptz not null default now(),
  recorded_by text not null,
  primary key (company_id, event_id),
  foreign key (company_id, subscription_id) references secretaria.subscriptions
);

create table secretaria.company_overrides (
  company_id bigint not null references secretaria.companies,
  feature text not null references secretaria.features_catalog,
  mode text not null default 'replace' check (mode in ('replace', 'stack')),
  allowed boolean not null default true,
  limit_value bigint check (limit_value >= 0),
  soft boolean not null default false,
  value jsonb,
  expires_at timestamptz,
  reason text not null,
  primary key (company_id, feature),
  check (mode = 'replace' or (allowed and limit_value is not null))
);
comment on column secretaria.company_overrides.mode is
  'replace: the plan is not asked. stack: the limit is added to the plan''s, which must have the feature.';

create table secretaria.feature_flags (
  company_id bigint not null references secretaria.companies,
  feature text not null references secretaria.features_catalog,
  enabled boolean not null,
  primary key (company_id, feature)
);
comment on table secretaria.feature_flags is 'A switch per company: false turns a feature off, whatever the plan says.';

create table secretaria.usage_grants (
  company_id bigint not null references secretaria.companies,
  grant_id uuid not null default gen_random_uuid(),
  feature text not null references secretaria.features_catalog,
  amount bigint not null check (amount > 0),
  consumed bigint not null default 0 check (consumed between 0 and amount),
  priority smallint not null default 100,
  effective_at timestamptz not null,
  expires_at timestamptz check (expires_at > effective_at),
  voided_at timestamptz,
  idempotency_key text,
  created_at timestamptz not null default now(),
  primary key (company_id, grant_id),
  unique (company_id, idempotency_key)
);
comment on table secretaria.usage_grants is
  'Credits beyond the plan''s limit: consumed by priority, then by expiry, then by age.';

create table secretaria.audit_logs (
  company_id bigint not null,
  audit_id bigint generated always as identity,
  actor text not null,
  action text not null,
  subject text not null,
  detail jsonb not null default '{}',
  recorded_at timestamptz not null default now(),
  primary key (company_id, audit_id)
);
comment on table secretaria.audit_logs is 'Who did what to a company''s rights. Only ever added to.';

create function secretaria.refuse_to_rewrite()
returns trigger
language plpgsql
as $$
begin
  raise exception '% is only ever added to', tg_table_name
    using errcode = 'object_not_in_prerequisite_state';
end
$$;
comment on function secretaria.refuse_to_rewrite() is 'Volatile; no locks. 55000 always.';

create trigger only_add
before update or delete or truncate
on secretaria.audit_logs
for each statement
execute function secretaria.refuse_to_rewrite();

create trigger only_add
before update or delete or truncate
on secretaria.subscription_events
for each statement
execute function secretaria.refuse_to_rewrite();

reset role;
