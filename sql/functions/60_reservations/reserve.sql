-- Headroom for a call whose cost is known only afterwards: held before it, settled or given back after it.

create or replace function secretaria_reference._expire_held(p_company bigint, p_feature text, p_now timestamptz)
returns bigint
language plpgsql
as $$
declare
  freed bigint;
begin
  with expired as (
    update secretaria.usage_reservations r
    set state = 'expired', settled_at = p_now
    from (
      select h.company_id, h.reservation_id
      from secretaria.usage_reservations h
      where h.company_id = p_company
        and h.feature = p_feature
        and h.state = 'held'
        and h.expires_at <= p_now
      order by h.reservation_id
      for update skip locked
    ) h
    where r.company_id = h.company_id
      and r.reservation_id = h.reservation_id
    returning r.amount, r.period_start
  ),
  given_back as (
    select e.period_start, sum(e.amount)::bigint as amount
    from expired e
    group by e.period_start
  ),
  counted as (
    update secretaria.feature_usage u
    set reserved = greatest(u.reserved - g.amount, 0)
    from given_back g
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
      and u.period_start = g.period_start
    returning g.amount
  )
  select coalesce(sum(c.amount), 0)
  into freed
  from counted c;
  return freed;
end
$$;
comment on function secretaria_reference._expire_held(bigint, text, timestamptz) is
  'Volatile; locks expired reservations of one counter that no other session has locked, then the counter. Answers how
much headroom it made.';

create or replace function secretaria_reference._reservable(
  p_company bigint,
  p_feature text,
  p_amount bigint,
  p_now timestamptz,
  out refused text,
  out period_start timestamptz
)
language plpgsql
as $$
#variable_conflict use_column
declare
  seen record;
begin
  for attempt in 1..6
  loop
    select u.*
    into seen
    from secretaria.feature_usage u
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0;
    if not found or p_now >= seen.valid_until or p_now >= seen.period_end or seen.reason = 'feature_not_found' then
      perform secretaria_reference._refresh(p_company, p_feature, p_now);
      continue;
    end if;
    if seen.kind <> 'metered' then
      raise exception 'feature "%" is not metered', p_feature using errcode = 'invalid_parameter_value';
    end if;
    if seen.lent is distinct from 0 then
      -- What is held stays in the first row, which has to know how much there is.
      perform secretaria_reference._merge_shards(p_company, p_feature);
      continue;
    end if;
    period_start := seen.period_start;
    refused := secretaria_reference._refusal(
      p_amount, 'reject', 0, seen.allowed, seen.reason, seen.soft, seen.limit_value, seen.used, seen.reserved);
    exit when refused is distinct from 'usage_limit_reached' or seen.reserved = 0
      or secretaria_reference._expire_held(p_company, p_feature, p_now) = 0;
  end loop;
end
$$;
comment on function secretaria_reference._reservable(bigint, text, bigint, timestamptz) is
  'Volatile; locks only where a row is out of date or expired reservations give headroom back. Why an amount could not
be held now, null when it could, and for which period.';

create or replace function secretaria_reference._hold(
  p_company bigint,
  p_feature text,
  p_amount bigint,
  p_expires_at timestamptz,
  p_key text,
  p_now timestamptz,
  out reservation_id uuid,
  out refused text
)
language plpgsql
as $$
#variable_conflict use_column
declare
  known record;
  period timestamptz;
begin
  for attempt in 1..20
  loop
    select a.refused, a.period_start
    into refused, period
    from secretaria_reference._reservable(p_company, p_feature, p_amount, p_now) a;
    -- After the counter was read, so that a refusal cannot overlook a reservation that the counter already has.
    select r.reservation_id, r.feature, r.amount, r.state, r.expires_at
    into known
    from secretaria.usage_reservations r
    where r.company_id = p_company
      and r.idempotency_key = p_key;
    if found then
      if (known.feature, known.amount) is distinct from (p_feature, p_amount) then
        raise exception 'idempotency key "%" was used for something else', p_key
          using errcode = 'unique_violation', schema = 'secretaria', table = 'usage_reservations',
            constraint = 'usage_reservations_company_id_idempotency_key_key';
      end if;
      -- What was settled or has run out holds nothing any more.
      refused := case when known.state <> 'held' or known.expires_at <= p_now then 'reservation_ended' end;
      reservation_id := case when refused is null then known.reservation_id end;
      return;
    end if;
    if refused is not null then
      return;
    end if;
    insert into secretaria.usage_reservations as r
      (company_id, feature, amount, period_start, expires_at, idempotency_key, created_at)
    values (p_company, p_feature, p_amount, period, p_expires_at, p_key, p_now)
    on conflict do nothing
    returning r.reservation_id
    into reservation_id;
    continue when reservation_id is null;
    update secretaria.feature_usage u
    set reserved = u.reserved + p_amount
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
      and u.lent = 0
      and u.period_start = period
      and u.valid_until > p_now
      and secretaria_reference._refusal(
        p_amount, 'reject', 0, u.allowed, u.reason, u.soft, u.limit_value, u.used, u.reserved) is null;
    if found then
      return;
    end if;
    delete from secretaria.usage_reservations r
    where r.company_id = p_company
      and r.reservation_id = _hold.reservation_id;
    reservation_id := null;
  end loop;
  raise exception 'feature "%" of company % changes too quickly', p_feature, p_company
    using errcode = 'serialization_failure', hint = 'try again';
end
$$;
comment on function secretaria_reference._hold(bigint, text, bigint, timestamptz, text, timestamptz) is
  'Volatile; locks the key''s reservation, then the counter''s row. Holds an amount, or says why not.';

create or replace function secretaria_reference.reserve_feature_usage(
  company_id bigint,
  feature text,
  amount bigint,
  ttl interval default '5 minutes',
  idempotency_key text default null,
  out reservation_id uuid,
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
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := secretaria_reference._now();
  refused text;
begin
  perform secretaria_reference._authorise(company_id, 'use');
  if feature is null or amount is null or ttl is null then
    raise exception 'feature, amount and ttl cannot be null' using errcode = 'null_value_not_allowed';
  end if;
  if amount <= 0 then
    raise exception 'amount % is not above zero', amount using errcode = 'invalid_parameter_value';
  end if;
  if amount > 100000000000000 then
    raise exception 'an amount is at most 10^14, not %', amount using errcode = 'numeric_value_out_of_range';
  end if;
  if at + ttl <= at or at + ttl > at + interval '24 hours' then
    raise exception 'ttl % is not within 24 hours', ttl using errcode = 'invalid_parameter_value';
  end if;
  if length(idempotency_key) not between 1 and 255 then
    raise exception 'an idempotency key has 1 to 255 characters' using errcode = 'invalid_parameter_value';
  end if;
  select h.reservation_id, h.refused
  into reservation_id, refused
  from secretaria_reference._hold(company_id, feature, amount, at + ttl,
    secretaria_reference._own_key(company_id, idempotency_key), at) h;
  select c.*
  into allowed, reason, feature_kind, limit_value, used, reserved, remaining, overage, soft_limit, period_start,
    period_end, source, checked_at
  from secretaria_reference.check_feature_access(company_id, feature, 0) c;
  allowed := refused is null;
  reason := coalesce(refused, case when used + reserved > limit_value then 'soft_limit_exceeded' end, 'ok');
end
$$;
comment on function secretaria_reference.reserve_feature_usage(bigint, text, bigint, interval, text) is
  'Volatile; locks the key''s reservation, then the counter''s row, until the transaction ends. Holds an amount for a
while (at most 24 hours); reservation_id is null where there is no headroom. The same key answers the same reservation
while it holds, and reservation_ended after that. 22004 nulls, 22023 a bad amount, ttl or key, 42704 an unknown
company or feature, 42501 another company, 23505 the key with another payload, 22003 an amount above 10^14, 40001 and
40P01 to be tried again.';
