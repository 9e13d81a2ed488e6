-- One line of the ledger and its counter, in the order that keeps a hard limit exact under any number of writers.

create or replace function secretaria_reference._refusal(
  p_amount bigint,
  p_on_exceed text,
  p_held bigint,
  p_allowed boolean,
  p_reason text,
  p_soft boolean,
  p_limit bigint,
  p_used bigint,
  p_reserved bigint
)
returns text
language sql
immutable
parallel safe
as $$
  select case
    when not p_allowed and p_held = 0 and p_on_exceed <> 'record' then p_reason
    when p_amount < 0 and p_used + p_amount < 0 then 'below_zero'
    when p_soft or p_limit is null or p_on_exceed in ('allow', 'record') or p_amount <= p_held then null
    when p_amount - p_held <= p_limit - p_used - p_reserved then null
    when p_on_exceed = 'cap' and p_limit - p_used - p_reserved > 0 then null
    else 'usage_limit_reached'
  end
$$;
comment on function secretaria_reference._refusal(
  bigint, text, bigint, boolean, text, boolean, bigint, bigint, bigint) is
  'Immutable; no locks. Why an amount would not be booked on a counter with these values; null when it would.';

create or replace function secretaria_reference._consume(
  p_company bigint,
  p_feature text,
  p_used bigint,
  p_limit bigint,
  p_now timestamptz
)
returns void
language plpgsql
as $$
declare
  credit record;
  due bigint;
  taken bigint;
begin
  -- The limit is the plan's, what this period took from credits, and what they still hold: what eats into the last
  -- is theirs to pay.
  select least(p_used - p_limit + sum(g.amount - g.consumed), sum(g.amount - g.consumed))
  into due
  from secretaria.usage_grants g
  where g.company_id = p_company
    and g.feature = p_feature
    and g.voided_at is null
    and g.effective_at <= p_now
    and (g.expires_at is null or g.expires_at > p_now);
  for credit in
    select g.grant_id, g.amount - g.consumed as held
    from secretaria.usage_grants g
    where due > 0
      and g.company_id = p_company
      and g.feature = p_feature
      and g.voided_at is null
      and g.consumed < g.amount
      and g.effective_at <= p_now
      and (g.expires_at is null or g.expires_at > p_now)
    order by g.priority, g.expires_at nulls last, g.created_at, g.grant_id
    for update
  loop
    taken := least(due, credit.held);
    update secretaria.usage_grants g
    set consumed = g.consumed + taken
    where g.company_id = p_company
      and g.grant_id = credit.grant_id;
    insert into secretaria.usage_grant_takings as t (company_id, grant_id, period_start, amount)
    select p_company, credit.grant_id, u.period_start, taken
    from secretaria.feature_usage u
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
    on conflict (company_id, grant_id, period_start) do update
    set amount = t.amount + excluded.amount;
    due := due - taken;
    exit when due = 0;
  end loop;
end
$$;
comment on function secretaria_reference._consume(bigint, text, bigint, bigint, timestamptz) is
  'Volatile; the caller holds the counter''s row. Takes what has passed the plan''s own limit from credits: by priority,
then expiry, then age, locking those it takes from.';

create or replace function secretaria_reference._count(
  p_line secretaria.usage_events,
  p_now timestamptz,
  p_on_exceed text,
  p_held bigint,
  out done boolean,
  out booked bigint,
  out used bigint,
  out reserved bigint,
  out limit_value bigint,
  out soft boolean,
  out crossed smallint[]
)
language plpgsql
-- Planning each time for the one partition that is meant would cost more than looking at all of them.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  line secretaria.usage_events := p_line;
  raises constant boolean := p_on_exceed in ('allow', 'record');
begin
  done := false;
  booked := p_line.amount;
  if p_on_exceed = 'cap' then
    select case
      when u.soft then p_line.amount
      else greatest(least(p_line.amount, u.limit_value - u.used - u.reserved), 0)
    end
    into booked
    from secretaria.feature_usage u
    where u.company_id = p_line.company_id
      and u.feature = p_line.feature
      and u.slot = 0
    for update;
  end if;
  update secretaria.feature_usage u
  set used = u.used + booked,
    reserved = greatest(u.reserved - p_held, 0),
    ceiling = case
      when booked <= p_held or not raises then u.ceiling
      when u.ceiling is not null then greatest(u.ceiling, u.used + booked + u.reserved - p_held)
    end
  where u.company_id = p_line.company_id
    and u.feature = p_line.feature
    and u.slot = 0
    and u.lent = 0
    and u.period_start = p_line.period_start
    and u.valid_until > p_now
    and secretaria_reference._refusal(
      booked, p_on_exceed, p_held, u.allowed, u.reason, u.soft, u.limit_value, u.used, u.reserved) is null
    and (booked > 0 or p_line.amount <= 0)
  returning u.used, u.reserved, u.limit_value, u.soft
  into used, reserved, limit_value, soft;
  if not found then
    return;
  end if;
  line.amount := booked;
  line.used_before := used - booked;
  line.used_after := used;
  line.limit_value := limit_value;
  line.thresholds := case
    when booked > 0 and used::numeric * 100 >= limit_value::numeric * 80
      then secretaria_reference._crossed(p_line.company_id, p_line.feature, used - booked, used)
    else '{}'
  end;
  insert into secretaria.usage_events
  select line.*
  on conflict do nothing;
  if not found then
    -- Another session, which had this row before us, booked this key: the next read finds its line.
    update secretaria.feature_usage u
    set used = u.used - booked,
      reserved = u.reserved + p_held,
      ceiling = case
        when raises and u.ceiling is not null then greatest(u.limit_value, u.used - booked + u.reserved + p_held)
        else u.ceiling
      end
    where u.company_id = p_line.company_id
      and u.feature = p_line.feature
      and u.slot = 0;
    return;
  end if;
  done := true;
  crossed := line.thresholds;
  if limit_value is not null and booked > 0 then
    perform secretaria_reference._consume(p_line.company_id, p_line.feature, used, limit_value, p_now)
    where exists (
      select
      from secretaria.usage_grants g
      where g.company_id = p_line.company_id
        and g.feature = p_line.feature
    );
    if crossed <> '{}' then
      perform secretaria_reference._fire(p_line.company_id, p_line.feature, used - booked, used);
    end if;
  end if;
end
$$;
comment on function secretaria_reference._count(secretaria.usage_events, timestamptz, text, bigint) is
  'Volatile; locks the counter''s row, then the key''s ledger line, which is written once with all it says. The guard is
evaluated on the row''s latest version, so there is no gap between check and act. done is false, and nothing is left,
where the guard refused or the key was taken.';

create or replace function secretaria_reference._book(
  p_line secretaria.usage_events,
  p_now timestamptz,
  p_on_exceed text,
  p_held bigint,
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
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  line secretaria.usage_events := p_line;
  seen record;
  counted record;
  refused text;
  done boolean;
  sharding constant text := secretaria_reference._sharding();
begin
  for attempt in 1..20
  loop
    -- The counter and the key from one snapshot: a refusal cannot overlook a line that the counter already has.
    select u as counter, u.allowed, u.soft, u.limit_value, u.reserved, u.period_start, u.period_end, u.valid_until,
      u.kind, u.reason, u.slots, e.idempotency_key,
      u.used + case when u.slots = 0 then 0
        else secretaria_reference._used_in_shards(u.company_id, u.feature) end as used,
      -- Another session holds the row, or did when this statement began.
      u.xmax <> '0' and u.xmax::text::bigint
        >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295 as contended
    into seen
    from (values (1)) as one (row)
    left join secretaria.feature_usage u
      on u.company_id = line.company_id
      and u.feature = line.feature
      and u.slot = 0
    left join secretaria.usage_events e
      on e.company_id = line.company_id
      and e.idempotency_key = line.idempotency_key;
    if seen.idempotency_key is not null then
      select s.*
      into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
        thresholds_crossed, period_start, period_end, event_id
      from secretaria_reference._stored(line) s;
      return;
    end if;
    if seen.allowed is null or p_now >= seen.valid_until or p_now >= seen.period_end
      or seen.reason = 'feature_not_found'
    then
      perform secretaria_reference._refresh(line.company_id, line.feature, p_now);
      continue;
    end if;
    if seen.kind <> 'metered' then
      raise exception 'feature "%" is not metered', line.feature using errcode = 'invalid_parameter_value';
    end if;
    -- What belongs to another period than the running one amends that; it may be a later one, where a clock went back.
    if p_line.period_start <> seen.period_start or p_line.period_start is null and line.occurred_at < seen.period_start
    then
      -- A caller who named no instant may not change the past: the period ended while the call was on its way.
      if p_line.period_start is null and p_on_exceed <> 'record' and line.occurred_at < p_now then
        perform secretaria_reference._authorise(line.company_id, 'manage');
      end if;
      select c.*
      into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
        thresholds_crossed, period_start, period_end, event_id
      from secretaria_reference._book_closed(p_line, p_on_exceed, p_held) c;
      return;
    end if;
    line.period_start := seen.period_start;
    line.period_end := seen.period_end;
    refused := secretaria_reference._refusal(
      p_line.amount, p_on_exceed, p_held, seen.allowed, seen.reason, seen.soft, seen.limit_value, seen.used,
      seen.reserved);
    if refused = 'usage_limit_reached' and seen.reserved > p_held
      and secretaria_reference._expire_held(line.company_id, line.feature, p_now) > 0
    then
      continue;
    end if;
    if refused is null then
      done := false;
      if seen.slots > 0 then
        if sharding <> 'off' and p_on_exceed = 'reject' and p_held = 0 and line.amount > 0 then
          counted := secretaria_reference._count_in_shard(line, p_now, seen.counter);
          done := counted.done;
        end if;
        if not done then
          perform secretaria_reference._merge_shards(line.company_id, line.feature);
        end if;
      end if;
      if not done then
        counted := secretaria_reference._count(line, p_now, p_on_exceed, p_held);
        continue when not counted.done;
        -- Only now and then: counters that are seldom written at once are faster without shards.
        if seen.slots = 0 and (sharding = 'on' or sharding = 'auto' and seen.contended and random() < 0.1) then
          perform secretaria_reference._add_shards(line.company_id, line.feature);
        end if;
      end if;
    elsif p_line.amount < 0 and refused = 'below_zero' then
      raise exception 'used would fall below zero' using errcode = 'numeric_value_out_of_range';
    end if;
    accepted := refused is null;
    reason := coalesce(refused, 'ok');
    duplicate := false;
    if accepted then
      used_before := counted.used - counted.booked;
      used_after := counted.used;
      reserved := counted.reserved;
      limit_value := counted.limit_value;
      thresholds_crossed := counted.crossed;
      if counted.soft and used_after + reserved > limit_value then
        reason := 'soft_limit_exceeded';
      end if;
    else
      used_before := seen.used;
      used_after := seen.used;
      reserved := seen.reserved;
      limit_value := seen.limit_value;
      thresholds_crossed := '{}';
    end if;
    remaining := case when limit_value is not null then greatest(limit_value - used_after - reserved, 0) end;
    overage := coalesce(greatest(used_after - limit_value, 0), 0);
    period_start := seen.period_start;
    period_end := seen.period_end;
    event_id := line.idempotency_key;
    return;
  end loop;
  raise exception 'feature "%" of company % changes too quickly', line.feature, line.company_id
    using errcode = 'serialization_failure', hint = 'try again';
end
$$;
comment on function secretaria_reference._book(secretaria.usage_events, timestamptz, text, bigint) is
  'Volatile; locks the counter''s row, then the key''s ledger line. Duplicate probe, plain refusal from a read, guarded
counter, ledger line; what was counted is taken back and all is read again where the key was taken. on_exceed as in
increment_feature_usage, or record: what happened is booked whether it was allowed or not. p_held units leave
reserved.';
