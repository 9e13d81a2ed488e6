-- One row carries the whole decision, so that a check is one read and a hard limit is one guarded update.
set local role secretaria_owner;

create table secretaria.entitlement_epochs (
  company_id bigint primary key,
  epoch bigint not null default 0
);
comment on table secretaria.entitlement_epochs is
  'Whoever changes what a company may do updates its row first, and then resolves: so no two overwrite each other.';

create table secretaria.feature_usage (
  company_id bigint not null,
  limit_value bigint,
  ceiling bigint,
  used bigint not null default 0 check (used >= 0),
  reserved bigint not null default 0 check (reserved >= 0),
  arming bigint not null default 0,
  period_start timestamptz not null,
  period_end timestamptz not null,
  valid_until timestamptz not null default 'infinity',
  slot smallint not null default 0,
  fired_threshold smallint not null default 0,
  allowed boolean not null,
  soft boolean not null,
  feature text not null,
  kind text not null,
  reason text not null,
  source text not null,
  value jsonb,
  primary key (company_id, feature, slot),
  check (used <= ceiling - reserved)
) with (fillfactor = 50);
comment on table secretaria.feature_usage is
  'What a company may do now, feature by feature. Resolved whenever a plan, an override, a flag or a status changes;
what time alone changes is an instant on the row. No column that a write changes has an index.';
comment on column secretaria.feature_usage.limit_value is 'What increments are held against; null: no limit.';
comment on column secretaria.feature_usage.ceiling is
  'What used and reserved can never pass. At least the limit; above it where a limit was lowered below what is used.
Null for soft limits and for none.';
comment on column secretaria.feature_usage.arming is 'Raised by a new limit and a new period: thresholds fire once each.';
comment on column secretaria.feature_usage.valid_until is
  'From here on the row no longer says what is true: a trial, a grace period, an override or a grant begins or ends.';
comment on column secretaria.feature_usage.slot is 'Further rows share the limit of a hot feature.';
comment on column secretaria.feature_usage.source is 'Who decided: catalogue, flag, subscription, override, plan.';

create table secretaria.feature_usage_periods (
  company_id bigint not null,
  feature text not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  limit_value bigint,
  used bigint not null,
  closed_at timestamptz not null default now(),
  primary key (company_id, feature, period_start)
);
comment on table secretaria.feature_usage_periods is 'Closed periods. A late event amends the one it belongs to.';

create table secretaria.usage_reservations (
  company_id bigint not null,
  reservation_id uuid not null default gen_random_uuid(),
  feature text not null,
  amount bigint not null check (amount > 0),
  state text not null default 'held' check (state in ('held', 'committed', 'released', 'expired')),
  actual bigint,
  period_start timestamptz not null,
  expires_at timestamptz not null,
  idempotency_key text,
  created_at timestamptz not null default now(),
  settled_at timestamptz,
  primary key (company_id, reservation_id),
  unique (company_id, idempotency_key),
  check ((state = 'held') = (settled_at is null)),
  check ((state = 'committed') = (actual is not null))
);
create index usage_reservations_held on secretaria.usage_reservations (expires_at) where state = 'held';

-- The ledger also takes what a caller counts himself, and remembers what it answered.
alter table secretaria.usage_events
  alter column fact drop not null,
  add column feature text,
  add column payload_hash bytea,
  add column used_before bigint,
  add column used_after bigint,
  add column limit_value bigint,
  add column thresholds smallint[],
  add column period_start timestamptz,
  add column period_end timestamptz,
  add column amends text,
  add column properties jsonb,
  add constraint usage_events_counts check (fact is not null or feature is not null),
  drop constraint usage_events_amount_check,
  add constraint usage_events_amount_check check (amount >= 0 or amends is not null);
comment on column secretaria.usage_events.feature is 'What it counted against; null for a fact that no feature counts.';
comment on column secretaria.usage_events.payload_hash is 'The same key with another payload is refused, not believed.';
comment on column secretaria.usage_events.amends is 'Why, for a correction: the only lines that may be negative.';

create table secretaria.usage_openings (
  company_id bigint not null,
  feature text not null,
  period_start timestamptz not null,
  amount bigint not null,
  events bigint not null,
  primary key (company_id, feature, period_start)
);
comment on table secretaria.usage_openings is
  'What the lines that were deleted from the ledger came to, so that counters can still be checked against it.';

create table secretaria.ai_model_prices (
  model text not null,
  since date not null,
  input_usd_micros bigint not null check (input_usd_micros >= 0),
  output_usd_micros bigint not null check (output_usd_micros >= 0),
  cached_usd_micros bigint not null check (cached_usd_micros >= 0),
  brl_micros_per_usd bigint not null check (brl_micros_per_usd > 0),
  primary key (model, since)
);
comment on table secretaria.ai_model_prices is 'Micro-dollars per million tokens from a day on, and that day''s exchange.';

create table secretaria.ai_usage_by_model (
  company_id bigint not null,
  month date not null check (extract(day from month) = 1),
  model text not null,
  messages bigint not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  cached_tokens bigint not null default 0,
  cost_usd_micros bigint not null default 0,
  cost_brl_micros bigint not null default 0,
  primary key (company_id, month, model)
);

reset role;
