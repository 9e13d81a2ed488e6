-- What was used is booked once, in a ledger and a counter, and a limit cannot be passed by racing for it.

create or replace function secretaria_reference._has_headroom(
  p_used bigint,
  p_reserved bigint,
  p_limit bigint,
  p_soft boolean,
  p_fired smallint
)
returns boolean
language sql
immutable
parallel safe
as $$
  select p_limit is null
    or (p_soft or p_used + p_reserved <= p_limit)
      and (p_fired >= 100 or p_used < case when p_fired >= 80 then p_limit else p_limit / 5 * 4 end)
$$;
comment on function secretaria_reference._has_headroom(bigint, bigint, bigint, boolean, smallint) is
  'Immutable; no locks. Whether a counter with these values is within its limit, and below the next threshold.';

create or replace function secretaria_reference._increment_slow_path(
  company_id bigint,
  feature text,
  amount bigint,
  idempotency_key text,
  occurred_at timestamptz,
  on_exceed text,
  properties jsonb,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := secretaria_reference._now();
  line secretaria.usage_events;
begin
  perform secretaria_reference._authorise(company_id, 'use');
  if feature is null or amount is null then
    raise exception 'feature and amount cannot be null' using errcode = 'null_value_not_allowed';
  end if;
  if amount < 0 then
    raise exception 'amount % is negative', amount
      using errcode = 'invalid_parameter_value', hint = 'adjust_feature_usage takes back';
  end if;
  if on_exceed is null or on_exceed not in ('reject', 'cap', 'allow') then
    raise exception 'on_exceed is "%"', on_exceed
      using errcode = 'invalid_parameter_value', hint = 'reject, cap or allow';
  end if;
  if on_exceed = 'allow' then
    perform secretaria_reference._authorise(company_id, 'manage');
  end if;
  line := secretaria_reference._line(company_id, feature, amount, idempotency_key, occurred_at, at);
  line.payload_hash := sha256(convert_to(concat_ws('|', feature, amount, on_exceed), 'UTF8'));
  line.properties := properties;
  select b.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference._book(line, at, on_exceed, 0) b;
end
$$;
comment on function secretaria_reference._increment_slow_path(bigint, text, bigint, text, timestamptz, text, jsonb) is
  'Volatile; what increment_feature_usage does where the fast path counts nothing: any caller, any arguments, and near a
limit. It has its own rights because the extension calls it too, after _increment_fast_path.';

create or replace function secretaria_reference._increment_fast_path(
  p_company bigint,
  p_feature text,
  p_amount bigint,
  p_key text,
  p_properties jsonb,
  p_used bigint,
  p_reserved bigint,
  p_limit bigint,
  p_soft boolean,
  p_shard smallint,
  p_start timestamptz,
  p_end timestamptz,
  p_contended boolean,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- One plan for all: planning each time would cost more than the statements do.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if p_shard > 0 then
    if not secretaria_reference._add_to_shard(
      p_company, p_feature, p_shard, p_amount, p_start, statement_timestamp())
    then
      return;
    end if;
    used_after := p_used + p_amount;
    reserved := p_reserved;
    limit_value := p_limit;
  else
    update secretaria.feature_usage u
    set used = u.used + p_amount
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
      and u.lent = 0
      and u.period_start = p_start
      and u.valid_until > statement_timestamp()
      and u.allowed
      and secretaria_reference._has_headroom(u.used + p_amount, u.reserved, u.limit_value, u.soft, u.fired_threshold)
      and not exists (
        select
        from secretaria.usage_grants g
        where g.company_id = p_company
          and g.feature = p_feature
      )
    returning u.used, u.reserved, u.limit_value
    into used_after, reserved, limit_value;
    if not found then
      return;
    end if;
  end if;
  insert into secretaria.usage_events as e
    (company_id, idempotency_key, feature, amount, occurred_at, recorded_at, day, payload_hash, used_before,
      used_after, limit_value, thresholds, period_start, period_end, properties)
  values (
    p_company, coalesce(p_key, gen_random_uuid()::text), p_feature, p_amount, statement_timestamp(),
    statement_timestamp(), (
      select (statement_timestamp() at time zone c.time_zone)::date
      from secretaria.companies c
      where c.company_id = p_company
    ),
    sha256(convert_to(concat_ws('|', p_feature, p_amount, 'reject'), 'UTF8')),
    _increment_fast_path.used_after - p_amount, _increment_fast_path.used_after, _increment_fast_path.limit_value, '{}',
    p_start, p_end, p_properties)
  -- A key that is known is found here: to look first would lock every partition of the ledger.
  on conflict do nothing
  returning true,
    case when p_soft and e.used_after + _increment_fast_path.reserved > e.limit_value
      then 'soft_limit_exceeded' else 'ok' end,
    false, e.used_before,
    case when e.limit_value is not null
      then greatest(e.limit_value - e.used_after - _increment_fast_path.reserved, 0) end,
    coalesce(greatest(e.used_after - e.limit_value, 0), 0), e.thresholds, e.period_start, e.period_end,
    e.idempotency_key
  into accepted, reason, duplicate, used_before, remaining, overage, thresholds_crossed, period_start, period_end,
    event_id;
  if found then
    if p_contended then
      -- Only now and then: counters that are seldom written at once are faster without shards.
      if random() < 0.1 and secretaria_reference._sharding() = 'auto' then
        perform secretaria_reference._add_shards(p_company, p_feature);
      end if;
    end if;
    return;
  end if;
  update secretaria.feature_usage u
  set used = u.used - p_amount
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = p_shard;
end
$$;
comment on function secretaria_reference._increment_fast_path(
  bigint, text, bigint, text, jsonb, bigint, bigint, bigint, boolean, smallint, timestamptz, timestamptz, boolean) is
  'Volatile; locks as increment_feature_usage does. Counts where no limit or threshold is near, given what the
counter''s rows said a moment ago and which of them to write; accepted is null, and nothing is counted, where the row
has changed. Its caller has checked who asks, and that the arguments need no further look.';

create or replace function secretaria_reference.increment_feature_usage(
  company_id bigint,
  feature text,
  amount bigint,
  idempotency_key text default null,
  occurred_at timestamptz default null,
  on_exceed text default 'reject',
  properties jsonb default null,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- The fast path: a service counts something now, far from the limit and from the next threshold.
  select b.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria.feature_usage u
  cross join lateral secretaria_reference._increment_fast_path(
    u.company_id, u.feature, increment_feature_usage.amount, increment_feature_usage.idempotency_key,
    increment_feature_usage.properties,
    u.used + case when u.slots = 0 then 0 else (
      select coalesce(sum(s.used), 0)::bigint
      from secretaria.feature_usage s
      where s.company_id = increment_feature_usage.company_id
        and s.feature = increment_feature_usage.feature
        and s.slot > 0
    ) end,
    u.reserved, u.limit_value, u.soft,
    case when u.slots = 0 then 0 else 1 + pg_backend_pid() % u.slots end::smallint, u.period_start, u.period_end,
    u.slots = 0 and u.xmax <> '0' and u.xmax::text::bigint
      >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295) b
  where u.company_id = increment_feature_usage.company_id
    and u.feature = increment_feature_usage.feature
    and u.slot = 0
    and u.allowed
    and u.kind = 'metered'
    and u.valid_until > statement_timestamp()
    and u.period_start <= statement_timestamp()
    and u.period_end > statement_timestamp()
    and amount between 1 and 100000000000000
    and on_exceed = 'reject'
    and occurred_at is null
    and coalesce(length(increment_feature_usage.idempotency_key) between 1 and 255, true)
    and secretaria_reference._sharding() <> case when u.slots = 0 then 'on' else 'off' end
    and secretaria_reference._takes_fast_path();
  if accepted then
    return;
  end if;
  select b.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference._increment_slow_path(
    company_id, feature, amount, idempotency_key, occurred_at, on_exceed, properties) b;
end
$$;
comment on function secretaria_reference.increment_feature_usage(
  bigint, text, bigint, text, timestamptz, text, jsonb) is
  'Volatile; locks the counter''s row, then the key''s ledger line, until the transaction ends: call it last. A refusal
is an answer (accepted = false) and leaves nothing. The keys of callers who may only use are apart: they are
stored and answered with own: before them. on_exceed: reject, cap (books what fits), allow (books all; needs
manage). 22004 nulls, 22023 a bad amount, on_exceed, key or instant, 42704 an unknown company or feature, 42501 another
company, 23505 the key with another payload, 22003 overflow, 40001 and 40P01 to be tried again.';

create or replace function secretaria_reference.increment_feature_usage_or_raise(
  company_id bigint,
  feature text,
  amount bigint,
  idempotency_key text default null,
  occurred_at timestamptz default null,
  on_exceed text default 'reject',
  properties jsonb default null,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select b.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference.increment_feature_usage(
    company_id, feature, amount, idempotency_key, occurred_at, on_exceed, properties) b;
  if not accepted then
    raise exception 'feature "%": %', feature, reason
      using errcode = 'configuration_limit_exceeded', detail = json_build_object(
        'feature', feature, 'limit', limit_value, 'used', used_before, 'requested', amount,
        'resets_at', case when isfinite(period_end) then period_end end)::text;
  end if;
end
$$;
comment on function secretaria_reference.increment_feature_usage_or_raise(
  bigint, text, bigint, text, timestamptz, text, jsonb) is
  'Volatile; as increment_feature_usage, but a refusal is 53400 and undoes the caller''s statement. Its detail is JSON:
feature, limit, used, requested, resets_at.';
