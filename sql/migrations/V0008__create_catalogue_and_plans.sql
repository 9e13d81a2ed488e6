-- What can be sold and to whom it was promised: features, plans, and plan versions that never change once published.
set local role secretaria_owner;

create table secretaria.features_catalog (
  feature text primary key check (feature ~ '^[a-z][a-z0-9_]{0,62}$'),
  name text not null,
  kind text not null check (kind in ('boolean', 'static', 'metered')),
  reset text not null default 'never' check (reset in ('never', 'day', 'week', 'month', 'year')),
  fact text unique check (fact in ('message_in', 'message_out', 'model_tokens')),
  always_on boolean not null default false,
  status text not null default 'active' check (status in ('active', 'disabled', 'archived')),
  created_at timestamptz not null default now(),
  check (kind = 'metered' or (reset = 'never' and fact is null))
);
comment on column secretaria.features_catalog.fact is
  'The usage fact this feature counts: messages one each, tokens input and output together. One feature per fact.';
comment on column secretaria.features_catalog.always_on is
  'Stays allowed without a subscription, and while one is suspended or canceled.';
comment on column secretaria.features_catalog.status is
  'disabled is the kill switch for everybody; archived is as if it had never been.';

create table secretaria.plans (
  plan_id bigint generated always as identity primary key,
  code text not null unique check (code ~ '^[a-z][a-z0-9_]{0,62}$'),
  name text not null,
  created_at timestamptz not null default now()
);

create table secretaria.plan_versions (
  plan_version_id bigint generated always as identity primary key,
  plan_id bigint not null references secretaria.plans,
  version integer not null check (version > 0),
  state text not null default 'draft' check (state in ('draft', 'published', 'retired')),
  price_minor bigint not null default 0 check (price_minor >= 0),
  currency text not null default 'BRL' check (currency ~ '^[A-Z]{3}$'),
  billing_interval text not null default 'month' check (billing_interval in ('month', 'year')),
  published_at timestamptz,
  created_at timestamptz not null default now(),
  unique (plan_id, version),
  check ((state = 'draft') = (published_at is null))
);
comment on table secretaria.plan_versions is
  'A published version never changes: who subscribed to it keeps it. Retired ones take no new subscribers.';
comment on column secretaria.plan_versions.price_minor is 'In the currency''s minor unit (centavos), per interval.';

create table secretaria.plan_features (
  plan_version_id bigint not null references secretaria.plan_versions,
  feature text not null references secretaria.features_catalog,
  limit_value bigint check (limit_value >= 0),
  soft boolean not null default false,
  value jsonb,
  primary key (plan_version_id, feature)
);
comment on column secretaria.plan_features.limit_value is 'Per period, in the feature''s smallest unit; null: no limit.';
comment on column secretaria.plan_features.soft is 'What goes over the limit is accepted and counted as overage.';
comment on column secretaria.plan_features.value is 'What a static feature says.';

create table secretaria.subscription_policies (
  status text primary key check (status in ('trialing', 'active', 'past_due', 'canceled', 'suspended')),
  allows boolean not null,
  ends_with text check (ends_with in ('trial', 'grace')),
  reason text not null
);
comment on table secretaria.subscription_policies is
  'What each status allows, until which instant of the subscription, and the reason that is given after it.';

insert into secretaria.subscription_policies (status, allows, ends_with, reason)
values
  ('trialing', true, 'trial', 'trial_expired'),
  ('active', true, null, 'subscription_inactive'),
  ('past_due', true, 'grace', 'subscription_inactive'),
  ('canceled', false, null, 'subscription_inactive'),
  ('suspended', false, null, 'subscription_inactive');

create function secretaria.keep_published_versions()
returns trigger
language plpgsql
as $$
declare
  touched bigint[];
begin
  if tg_table_name = 'plan_versions' then
    if old.state <> 'draft' and (tg_op = 'DELETE' or new.state = 'draft'
      or (new.plan_id, new.version, new.price_minor, new.currency, new.billing_interval, new.published_at)
        is distinct from
        (old.plan_id, old.version, old.price_minor, old.currency, old.billing_interval, old.published_at)) then
      raise exception 'plan version % is published and never changes', old.plan_version_id
        using errcode = 'object_not_in_prerequisite_state', hint = 'create the next version of the plan';
    end if;
  else
    touched := array[
      case when tg_op <> 'INSERT' then old.plan_version_id end, case when tg_op <> 'DELETE' then new.plan_version_id end];
    -- Locked whatever its state is, so that publishing waits for this edit, and this edit for a publishing under way.
    perform
    from secretaria.plan_versions v
    where v.plan_version_id = any (touched)
    order by v.plan_version_id
    for share;
    if exists (
      select
      from secretaria.plan_versions v
      where v.plan_version_id = any (touched)
        and v.state <> 'draft'
    ) then
      raise exception 'the features of a published plan version never change'
        using errcode = 'object_not_in_prerequisite_state', hint = 'create the next version of the plan';
    end if;
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function secretaria.keep_published_versions() is
  'Volatile; shares the version''s row, so that publishing waits for edits under way. 55000 for a published version.';

create trigger keep_published
before update or delete
on secretaria.plan_versions
for each row
execute function secretaria.keep_published_versions();

create trigger keep_published
before insert or update or delete
on secretaria.plan_features
for each row
execute function secretaria.keep_published_versions();

reset role;
