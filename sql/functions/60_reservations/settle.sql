-- A reservation ends once: settled for what the call came to, given back, or expired.

create or replace function secretaria_reference._take(p_company bigint, p_reservation uuid)
returns secretaria.usage_reservations
language plpgsql
as $$
declare
  taken secretaria.usage_reservations;
begin
  perform secretaria_reference._authorise(p_company, 'use');
  if p_reservation is null then
    raise exception 'reservation_id is null' using errcode = 'null_value_not_allowed';
  end if;
  select r.*
  into taken
  from secretaria.usage_reservations r
  where r.company_id = p_company
    and r.reservation_id = p_reservation
  for update;
  if not found then
    raise exception 'reservation % does not exist', p_reservation using errcode = 'undefined_object';
  end if;
  return taken;
end
$$;
comment on function secretaria_reference._take(bigint, uuid) is
  'Volatile; locks the reservation. 22004 nulls, 42501 another company, 42704 an unknown reservation.';

create or replace function secretaria_reference._give_back(p_held secretaria.usage_reservations)
returns void
language sql
as $$
  update secretaria.feature_usage u
  set reserved = greatest(u.reserved - p_held.amount, 0)
  where u.company_id = p_held.company_id
    and u.feature = p_held.feature
    and u.slot = 0
    and u.period_start = p_held.period_start
$$;
comment on function secretaria_reference._give_back(secretaria.usage_reservations) is
  'Volatile; the caller holds the reservation; locks the counter''s row. Nothing, where its period is over.';

create or replace function secretaria_reference._settle(
  p_held secretaria.usage_reservations,
  p_line secretaria.usage_events,
  p_now timestamptz,
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
as $$
#variable_conflict use_column
declare
  line secretaria.usage_events := p_line;
  -- A caller who may manage reports what has happened; any other asks.
  on_exceed text := case when secretaria_reference._may(p_line.company_id, 'manage') then 'record' else 'reject' end;
begin
  line.period_start := p_held.period_start;
  line.properties := jsonb_build_object('reservation', p_held.reservation_id);
  select b.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference._book(line, p_now, on_exceed, p_held.amount) b;
  if not accepted then
    return;
  end if;
  if duplicate then
    perform secretaria_reference._give_back(p_held);
  end if;
  update secretaria.usage_reservations r
  set state = 'committed', actual = p_line.amount, settled_at = p_now
  where r.company_id = p_held.company_id
    and r.reservation_id = p_held.reservation_id;
end
$$;
comment on function secretaria_reference._settle(secretaria.usage_reservations, secretaria.usage_events, timestamptz) is
  'Volatile; the caller holds the reservation; locks the ledger line, then the counter''s row. Books what a held
reservation came to, in the period it was made in, and ends it; a refusal leaves it held.';

create or replace function secretaria_reference.commit_reservation(
  company_id bigint,
  reservation_id uuid,
  actual bigint default null,
  idempotency_key text default null,
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
  held secretaria.usage_reservations := secretaria_reference._take(company_id, reservation_id);
  line secretaria.usage_events;
begin
  if actual < 0 then
    raise exception 'actual % is negative', actual using errcode = 'invalid_parameter_value';
  end if;
  line := secretaria_reference._line(company_id, held.feature, coalesce(actual, held.amount),
    coalesce(idempotency_key, 'reservation:' || reservation_id), null, at);
  line.payload_hash := sha256(convert_to(concat_ws('|', held.feature, line.amount, 'reservation'), 'UTF8'));
  if held.state = 'committed' and held.actual = line.amount then
    select s.*
    into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
      thresholds_crossed, period_start, period_end, event_id
    from secretaria_reference._stored(line) s;
    if accepted is null then
      -- Settled under another key, or so long ago that the ledger has forgotten the line.
      accepted := true;
      reason := 'duplicate';
      duplicate := true;
      thresholds_crossed := '{}';
      event_id := line.idempotency_key;
    end if;
    return;
  end if;
  if held.state <> 'held' or held.expires_at <= at then
    raise exception 'reservation % is %', reservation_id, case held.state when 'held' then 'expired' else held.state end
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  select s.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference._settle(held, line, at) s;
end
$$;
comment on function secretaria_reference.commit_reservation(bigint, uuid, bigint, text) is
  'Volatile; locks the reservation, the ledger line, then the counter''s row, until the transaction ends. Books what the
call came to (null: what was held) in the period of the reservation; more than was held is booked where it fits, or the
limit is soft, or the role may manage. Again with the same actual: a duplicate. 22004 nulls, 22023 a negative actual or
bad key, 42704 unknown, 42501 another company, 55000 expired, released or settled for another amount, 23505 the key with
another payload, 40001 and 40P01 to be tried again.';

create or replace function secretaria_reference.release_reservation(company_id bigint, reservation_id uuid)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  at timestamptz := secretaria_reference._now();
  held secretaria.usage_reservations := secretaria_reference._take(company_id, reservation_id);
begin
  if held.state <> 'held' then
    return false;
  end if;
  update secretaria.usage_reservations r
  set state = case when held.expires_at <= at then 'expired' else 'released' end, settled_at = at
  where r.company_id = held.company_id
    and r.reservation_id = held.reservation_id;
  perform secretaria_reference._give_back(held);
  return held.expires_at > at;
end
$$;
comment on function secretaria_reference.release_reservation(bigint, uuid) is
  'Volatile; locks the reservation, then the counter''s row, until the transaction ends. Gives back what was held; false
where it was settled or had expired already. 22004 nulls, 42704 unknown, 42501 another company, 40001 and 40P01 to be
tried again.';

create or replace function secretaria_reference.expire_reservations(batch integer default 1000)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := secretaria_reference._now();
  done integer;
begin
  perform secretaria_reference._authorise(0, 'manage');
  if batch is null then
    raise exception 'batch is null' using errcode = 'null_value_not_allowed';
  end if;
  if batch <= 0 then
    raise exception 'batch % is not above zero', batch using errcode = 'invalid_parameter_value';
  end if;
  with expired as (
    update secretaria.usage_reservations r
    set state = 'expired', settled_at = at
    from (
      select h.company_id, h.reservation_id
      from secretaria.usage_reservations h
      where h.state = 'held'
        and h.expires_at <= at
      order by h.expires_at
      limit batch
      for update skip locked
    ) h
    where r.company_id = h.company_id
      and r.reservation_id = h.reservation_id
    returning r.company_id, r.feature, r.period_start, r.amount
  ),
  given_back as materialized (
    select e.company_id, e.feature, e.period_start, sum(e.amount)::bigint as amount, count(*) as reservations
    from expired e
    group by e.company_id, e.feature, e.period_start
  ),
  -- Counters are locked in the order every writer uses.
  locked as materialized (
    select u.company_id, u.feature, g.amount
    from secretaria.feature_usage u
    join given_back g
      on g.company_id = u.company_id
      and g.feature = u.feature
      and g.period_start = u.period_start
    where u.slot = 0
    order by u.company_id, u.feature
    for update of u
  ),
  counted as (
    update secretaria.feature_usage u
    set reserved = greatest(u.reserved - l.amount, 0)
    from locked l
    where u.company_id = l.company_id
      and u.feature = l.feature
      and u.slot = 0
  )
  select coalesce(sum(g.reservations), 0)
  into done
  from given_back g;
  return done;
end
$$;
comment on function secretaria_reference.expire_reservations(integer) is
  'Volatile; locks up to a batch of expired reservations that no other session has locked, then their counters in key
order. Answers how many it ended; they also expire when a call needs their headroom. Needs manage. 22004, 22023.';
