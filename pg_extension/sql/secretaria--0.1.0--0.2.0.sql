-- From the read path alone to every public function of secretaria_reference.
\echo Use "alter extension secretaria update" to load this file. \quit

-- Everything that is no check: bindings, which call the function of their name in secretaria_reference. Privileges are
-- the reference's: a binding is everybody's to call, and refuses whom the reference refuses.
-- The library has a second name for them. A session loads no name twice, so one that loaded the library of 0.1.0, which
-- has no bindings, would not find them under the first; a new session finds that both names are one file.

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
      and p.prosrc = 'secretaria_delegate'
  loop
    execute format('comment on function %s is %L', binding,
      'Calls its namesake in secretaria_reference, whose comment says what it locks and what it raises.');
  end loop;
end
$$;
