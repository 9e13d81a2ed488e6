-- A counter that many write at once lends its room to further rows, one for each of a few writers, so that a commit
-- waits for the disk and not for the others. Only what cannot matter is lent: the sum of all rows never passes the
-- limit, and no threshold is crossed by it. Near either, one row counts again.

create or replace function secretaria_reference._used_in_slots(p_company bigint, p_feature text)
returns bigint
language sql
stable
parallel safe
as $$
  select coalesce(sum(s.used), 0)::bigint
  from secretaria.feature_usage s
  where s.company_id = p_company
    and s.feature = p_feature
    and s.slot > 0
$$;
comment on function secretaria_reference._used_in_slots(bigint, text) is
  'Stable; no locks. What the further rows have used since they were last gathered in.';

create or replace function secretaria_reference._sharing()
returns text
language sql
stable
parallel safe
as $$
  select coalesce(nullif(current_setting('secretaria.slots', true), ''), 'auto')
$$;
comment on function secretaria_reference._sharing() is
  'Stable; no locks. The setting secretaria.slots: auto shares a counter once its writers meet, on at its first
increment, off never. What it says changes how long a write takes, never an answer.';

create or replace function secretaria_reference._share(p_company bigint, p_feature text)
returns void
language plpgsql
as $$
declare
  rows constant smallint := 16;
begin
  update secretaria.feature_usage u
  set slots = rows
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0
    and u.slots = 0
    and u.allowed
    and u.kind = 'metered'
    and not exists (
      select
      from secretaria.usage_grants g
      where g.company_id = p_company
        and g.feature = p_feature
    );
  if found then
    insert into secretaria.feature_usage
      (company_id, feature, slot, limit_value, ceiling, fired_threshold, period_start, period_end, valid_until, allowed,
        soft, kind, reason, source)
    -- Thresholds are the first row's business.
    select u.company_id, u.feature, n, 0, 0, 100, u.period_start, u.period_end, u.valid_until, true, false, u.kind,
      u.reason, u.source
    from secretaria.feature_usage u
    cross join generate_series(1, rows) n
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
    order by n;
  end if;
end
$$;
comment on function secretaria_reference._share(bigint, text) is
  'Volatile; locks the counter''s first row. Gives a counter further rows, with nothing lent to them yet. Credits are
taken in their order at each increment, so a feature with grants keeps its one row.';

create or replace function secretaria_reference._gather(p_company bigint, p_feature text)
returns void
language plpgsql
as $$
declare
  lent_out bigint;
  used_there bigint;
begin
  select u.lent
  into lent_out
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0
  for update;
  if lent_out = 0 then
    return;
  end if;
  perform
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot > 0
  order by u.slot
  for update;
  used_there := secretaria_reference._used_in_slots(p_company, p_feature);
  update secretaria.feature_usage u
  set used = u.used + used_there,
    lent = 0
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0;
  update secretaria.feature_usage u
  set used = 0,
    limit_value = 0,
    ceiling = 0
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot > 0
    and u.limit_value is distinct from 0;
end
$$;
comment on function secretaria_reference._gather(bigint, text) is
  'Volatile; locks the counter''s first row, then, where something is lent, the others in the order of slots. Takes it all
back: the first row then says how much is used. 40001 at REPEATABLE READ where another counted meanwhile.';

create or replace function secretaria_reference._end_sharing(p_company bigint)
returns void
language plpgsql
as $$
begin
  with ended as (
    delete from secretaria.feature_usage u
    where u.company_id = p_company
      and u.slot > 0
    returning u.feature, u.used
  )
  update secretaria.feature_usage u
  set used = u.used + e.used,
    lent = 0,
    slots = 0
  from (
    select d.feature, sum(d.used)::bigint as used
    from ended d
    group by d.feature
  ) e
  where u.company_id = p_company
    and u.feature = e.feature
    and u.slot = 0;
end
$$;
comment on function secretaria_reference._end_sharing(bigint) is
  'Volatile; the caller holds all rows of the company. Takes everything back and the further rows away: what they were
lent is about to change.';

create or replace function secretaria_reference._room(p_counter secretaria.feature_usage)
returns bigint
language sql
immutable
parallel safe
as $$
  -- Thresholds look at what is used, limits at what is held as well.
  select least(
    case when not p_counter.soft then p_counter.limit_value - p_counter.used - p_counter.reserved end,
    case
      when p_counter.limit_value <= 0 then 0
      when p_counter.fired_threshold < 80
        then ceil(p_counter.limit_value::numeric * 80 / 100)::bigint - 1 - p_counter.used
      when p_counter.fired_threshold < 100 then p_counter.limit_value - 1 - p_counter.used
    end
  ) - p_counter.lent
$$;
comment on function secretaria_reference._room(secretaria.feature_usage) is
  'Immutable; no locks. How much the counter could count, beside what is lent, without reaching its limit or its next
threshold; null: any amount.';

create or replace function secretaria_reference._lend(
  p_company bigint,
  p_feature text,
  p_slot smallint,
  p_amount bigint,
  p_period timestamptz,
  p_now timestamptz
)
returns boolean
language plpgsql
as $$
declare
  counter secretaria.feature_usage;
  mine secretaria.feature_usage;
  share bigint;
begin
  select u.*
  into counter
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0
  for update;
  if counter.slots < p_slot or counter.period_start <> p_period or counter.valid_until <= p_now
    or not counter.allowed or counter.lent is null and counter.limit_value is not null and not counter.soft
  then
    return false;
  end if;
  select u.*
  into strict mine
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = p_slot
  for update;
  -- Its own use becomes the counter's, and what it did not use goes back first.
  counter.used := counter.used + mine.used;
  counter.lent := counter.lent - mine.limit_value;
  share := secretaria_reference._room(counter) / (2 * counter.slots);
  if share < 8 * p_amount then
    return false;
  end if;
  update secretaria.feature_usage u
  set used = counter.used,
    lent = counter.lent + share
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0;
  update secretaria.feature_usage u
  set used = 0,
    limit_value = share,
    ceiling = share,
    period_start = counter.period_start,
    period_end = counter.period_end,
    valid_until = counter.valid_until
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = p_slot;
  return true;
end
$$;
comment on function secretaria_reference._lend(bigint, text, smallint, bigint, timestamptz, timestamptz) is
  'Volatile; locks the counter''s first row, then the slot''s. Lends a slot its part of the room that is left, half of
which stays; false, and nothing is changed, where that would not do for a few such amounts.';

create or replace function secretaria_reference._count_in_slot(
  p_line secretaria.usage_events,
  p_now timestamptz,
  p_counter secretaria.feature_usage,
  out done boolean,
  out booked bigint,
  out used bigint,
  out reserved bigint,
  out limit_value bigint,
  out soft boolean,
  out crossed smallint[]
)
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  mine constant smallint := 1 + pg_backend_pid() % p_counter.slots;
  line secretaria.usage_events := p_line;
begin
  done := false;
  for attempt in 1..2
  loop
    update secretaria.feature_usage u
    set used = u.used + p_line.amount
    where u.company_id = p_line.company_id
      and u.feature = p_line.feature
      and u.slot = mine
      and u.period_start = p_line.period_start
      and u.valid_until > p_now
      and (u.limit_value is null or u.used + p_line.amount <= u.limit_value);
    exit when found;
    if attempt = 2 or not secretaria_reference._lend(
      p_line.company_id, p_line.feature, mine, p_line.amount, p_line.period_start, p_now)
    then
      return;
    end if;
  end loop;
  -- What others have used since this statement began is not in it: the exact sum is the ledger's.
  select sum(u.used)
  into used
  from secretaria.feature_usage u
  where u.company_id = p_line.company_id
    and u.feature = p_line.feature;
  line.used_before := used - line.amount;
  line.used_after := used;
  line.limit_value := p_counter.limit_value;
  line.thresholds := '{}';
  insert into secretaria.usage_events
  select line.*
  on conflict do nothing;
  if not found then
    -- Somebody else's by now: the next read finds it.
    update secretaria.feature_usage u
    set used = u.used - p_line.amount
    where u.company_id = p_line.company_id
      and u.feature = p_line.feature
      and u.slot = mine;
    return;
  end if;
  done := true;
  booked := p_line.amount;
  reserved := p_counter.reserved;
  limit_value := p_counter.limit_value;
  soft := p_counter.soft;
  crossed := '{}';
end
$$;
comment on function secretaria_reference._count_in_slot(secretaria.usage_events, timestamptz, secretaria.feature_usage) is
  'Volatile; locks one slot of the counter (now and then its first row too), then the key''s ledger line. Counts what
cannot cross anything, in the row of this session; done is false, and nothing is left, where that was not possible.';
