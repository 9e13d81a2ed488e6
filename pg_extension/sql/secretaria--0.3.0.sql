-- Every public function of secretaria_reference under its name: checks without the executor, everything else as bindings.
-- It asks for no table here, because a dump creates extensions before tables; a call says what is missing (0A000).
\echo Use "create extension secretaria" to load this file. \quit

create function secretaria.check_feature_access(
  company_id bigint,
  feature text,
  required bigint default 1,
  at timestamptz default null,
  out allowed boolean,
  out reason text,
  out feature_kind text,
  out limit_value bigint,
  out used bigint,
  out reserved bigint,
  out remaining bigint,
  out overage bigint,
  out soft_limit boolean,
  out period_start timestamptz,
  out period_end timestamptz,
  out source text,
  out checked_at timestamptz
)
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_check';
comment on function secretaria.check_feature_access(bigint, text, bigint, timestamptz) is
  'Stable; takes ACCESS SHARE on secretaria.feature_usage, changes nothing. Whether a company may use so much more of
a feature, and how much there is. 22004 for nulls, 22023 for a negative amount, 42501 for a company that is not the
caller''s.';

create function secretaria.has_feature(company_id bigint, feature text)
returns boolean
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_has_feature';
comment on function secretaria.has_feature(bigint, text) is
  'Stable; takes ACCESS SHARE on secretaria.feature_usage, changes nothing. Whether a company may use one more of a
feature: false for one that is not the caller''s. 22004 for nulls.';

create function secretaria.check_feature_access_many(company_id bigint, features text[])
returns table (
  feature text,
  allowed boolean,
  reason text,
  feature_kind text,
  limit_value bigint,
  used bigint,
  reserved bigint,
  remaining bigint,
  overage bigint,
  soft_limit boolean,
  period_start timestamptz,
  period_end timestamptz,
  source text,
  checked_at timestamptz
)
language c
stable
parallel safe
rows 10
as 'MODULE_PATHNAME', 'secretaria_check_many';
comment on function secretaria.check_feature_access_many(bigint, text[]) is
  'Stable; takes ACCESS SHARE on secretaria.feature_usage, changes nothing. check_feature_access for one more of each
feature, in the order given. 22004 for nulls, 42501 for a company that is not the caller''s.';

create function secretaria.location_cache_stats(
  out hits bigint,
  out misses bigint,
  out mismatches bigint,
  out entries bigint
)
language c
volatile
parallel restricted
as 'MODULE_PATHNAME', 'secretaria_stats';
comment on function secretaria.location_cache_stats() is
  'Volatile; no locks. How often this session found a row where it was before, searched the index, or found another
row (or none) at a remembered place; and how many places it remembers.';

create function secretaria._noop_has(company_id bigint, feature text)
returns boolean
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_noop_has';
comment on function secretaria._noop_has(bigint, text) is
  'Stable; no locks. Answers without reading: what a call costs by itself, for benchmarks.';

create function secretaria._noop_check(
  company_id bigint,
  feature text,
  required bigint default 1,
  at timestamptz default null,
  out allowed boolean,
  out reason text,
  out feature_kind text,
  out limit_value bigint,
  out used bigint,
  out reserved bigint,
  out remaining bigint,
  out overage bigint,
  out soft_limit boolean,
  out period_start timestamptz,
  out period_end timestamptz,
  out source text,
  out checked_at timestamptz
)
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_noop_check';
comment on function secretaria._noop_check(bigint, text, bigint, timestamptz) is
  'Stable; no locks. Answers without reading: what a call costs by itself, for benchmarks.';

-- Everything that is no check: bindings, which call the function of their name in secretaria_reference. Everybody may
-- call a binding, and is refused where the function it calls refuses.
-- The library has a second name for them. A session loads no name twice, so a session that loaded the library of 0.1.0,
-- which has no bindings, would not find them under the first; in a new session both names are one file.

create function secretaria.current_period(
  anchor timestamptz, cadence text, time_zone text, at timestamptz,
  out period_start timestamptz, out period_end timestamptz
)
language c stable parallel safe as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.entitlements(company_id bigint)
returns table (
  feature text, allowed boolean, reason text, feature_kind text, limit_value bigint, used bigint, reserved bigint,
  remaining bigint, overage bigint, soft_limit boolean, period_start timestamptz, period_end timestamptz,
  source text, checked_at timestamptz
)
language c stable parallel safe as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.get_static_entitlement(company_id bigint, feature text)
returns jsonb
language c stable parallel safe as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.require_feature()
returns trigger
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.increment_feature_usage(
  company_id bigint, feature text, amount bigint, idempotency_key text default null,
  occurred_at timestamptz default null, on_exceed text default 'reject', properties jsonb default null,
  out accepted boolean, out reason text, out duplicate boolean, out used_before bigint, out used_after bigint,
  out reserved bigint, out limit_value bigint, out remaining bigint, out overage bigint,
  out thresholds_crossed smallint[], out period_start timestamptz, out period_end timestamptz, out event_id text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_increment';

create function secretaria.increment_feature_usage_or_raise(
  company_id bigint, feature text, amount bigint, idempotency_key text default null,
  occurred_at timestamptz default null, on_exceed text default 'reject', properties jsonb default null,
  out accepted boolean, out reason text, out duplicate boolean, out used_before bigint, out used_after bigint,
  out reserved bigint, out limit_value bigint, out remaining bigint, out overage bigint,
  out thresholds_crossed smallint[], out period_start timestamptz, out period_end timestamptz, out event_id text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.increment_feature_usage_bulk(
  company_ids bigint[], features text[], amounts bigint[], idempotency_keys text[], occurred_at timestamptz[]
)
returns table (
  ord integer, accepted boolean, reason text, duplicate boolean, used_before bigint, used_after bigint,
  reserved bigint, limit_value bigint, remaining bigint, overage bigint, thresholds_crossed smallint[],
  period_start timestamptz, period_end timestamptz, event_id text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.increment_ai_usage(
  company_id bigint, model text, input_tokens bigint, output_tokens bigint, cached_tokens bigint default 0,
  idempotency_key text default null, occurred_at timestamptz default null, reservation_id uuid default null,
  out accepted boolean, out reason text, out duplicate boolean, out used_before bigint, out used_after bigint,
  out reserved bigint, out limit_value bigint, out remaining bigint, out overage bigint,
  out thresholds_crossed smallint[], out period_start timestamptz, out period_end timestamptz, out event_id text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.increment_ai_usage_bulk(
  company_ids bigint[], models text[], input bigint[], output bigint[], cached bigint[], idempotency_keys text[],
  occurred_at timestamptz[]
)
returns table (ord integer, accepted boolean, reason text, duplicate boolean)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.record_message_facts_bulk(
  company_ids bigint[], facts text[], idempotency_keys text[], occurred_at timestamptz[]
)
returns table (ord integer, accepted boolean, reason text, duplicate boolean)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.reserve_feature_usage(
  company_id bigint, feature text, amount bigint, ttl interval default '00:05:00',
  idempotency_key text default null,
  out reservation_id uuid, out allowed boolean, out reason text, out feature_kind text, out limit_value bigint,
  out used bigint, out reserved bigint, out remaining bigint, out overage bigint, out soft_limit boolean,
  out period_start timestamptz, out period_end timestamptz, out source text, out checked_at timestamptz
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.commit_reservation(
  company_id bigint, reservation_id uuid, actual bigint default null, idempotency_key text default null,
  out accepted boolean, out reason text, out duplicate boolean, out used_before bigint, out used_after bigint,
  out reserved bigint, out limit_value bigint, out remaining bigint, out overage bigint,
  out thresholds_crossed smallint[], out period_start timestamptz, out period_end timestamptz, out event_id text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.release_reservation(company_id bigint, reservation_id uuid)
returns boolean
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.expire_reservations(batch integer default 1000)
returns integer
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.adjust_feature_usage(
  company_id bigint, feature text, delta bigint, period_start timestamptz, reason text,
  amends_event text default null,
  out accepted boolean, out reason text, out duplicate boolean, out used_before bigint, out used_after bigint,
  out reserved bigint, out limit_value bigint, out remaining bigint, out overage bigint,
  out thresholds_crossed smallint[], out period_start timestamptz, out period_end timestamptz, out event_id text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.set_feature_usage(
  company_id bigint, feature text, value bigint, reason text,
  out accepted boolean, out reason text, out duplicate boolean, out used_before bigint, out used_after bigint,
  out reserved bigint, out limit_value bigint, out remaining bigint, out overage bigint,
  out thresholds_crossed smallint[], out period_start timestamptz, out period_end timestamptz, out event_id text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.grant_credits(
  company_id bigint, feature text, amount bigint, priority smallint default 100,
  effective_at timestamptz default null, expires_at timestamptz default null, idempotency_key text default null
)
returns uuid
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.void_grant(company_id bigint, grant_id uuid)
returns boolean
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.create_subscription(
  company_id bigint, plan_version_id bigint, anchor timestamptz default null, time_zone text default null,
  trial interval default null
)
returns uuid
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.change_subscription_plan(
  company_id bigint, subscription_id uuid, plan_version_id bigint, policy text default 'immediate',
  proration text default 'create_prorations',
  out effective_at timestamptz, out proration_minor bigint, out currency text
)
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.preview_plan_change(
  company_id bigint, subscription_id uuid, plan_version_id bigint, at timestamptz default null,
  out line text, out amount_minor bigint, out currency text
)
returns setof record
language c stable as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.cancel_subscription(
  company_id bigint, subscription_id uuid, at_period_end boolean default true
)
returns timestamptz
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.resume_subscription(company_id bigint, subscription_id uuid)
returns boolean
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.set_subscription_status(
  company_id bigint, subscription_id uuid, status text, grace interval default null
)
returns void
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.create_company_role(company_id bigint)
returns name
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.verify_usage(company_id bigint default null)
returns table (
  company_id bigint, feature text, period_start timestamptz, counter bigint, ledger bigint, drift bigint
)
language c stable as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.verify_entitlements(company_id bigint default null)
returns table (company_id bigint, feature text, field text, stored text, resolved text)
language c stable parallel safe as '$libdir/secretaria_bindings', 'secretaria_delegate';

create function secretaria.trim_usage_events(older_than interval default '35 days', batch integer default 10000)
returns integer
language c volatile as '$libdir/secretaria_bindings', 'secretaria_delegate';

do $$
declare
  binding regprocedure;
begin
  for binding in
    select p.oid
    from pg_catalog.pg_proc p
    where p.pronamespace = 'secretaria'::regnamespace
      and p.prosrc in ('secretaria_delegate', 'secretaria_increment')
  loop
    execute format('comment on function %s is %L', binding,
      'Calls the function of the same name in secretaria_reference, whose comment says what it locks and what it raises.');
  end loop;
end
$$;
