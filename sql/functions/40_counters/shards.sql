-- A counter that many sessions write at once is sharded: sixteen further rows of secretaria.feature_usage, its shards,
-- are numbered from 1 in the column slot, and each session counts in one of them. So a commit waits for the disk and
-- not for other writers. The first row, slot 0, gives parts of its headroom to the shards, at most up to its limit and
-- its next threshold: their sum never passes either. The column lent of the first row says how much it has given away,
-- the limit_value of a shard how much it got. Near a limit or a threshold the shards are merged, and one row counts
-- again. The columns keep these names: the extension reads them, and companies have views of them.

create or replace function secretaria_reference._used_in_shards(p_company bigint, p_feature text)
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
comment on function secretaria_reference._used_in_shards(bigint, text) is
  'Stable; no locks. What the shards have used since they were last merged.';

create or replace function secretaria_reference._sharding()
returns text
language sql
stable
parallel safe
as $$
  select coalesce(nullif(current_setting('secretaria.slots', true), ''), 'auto')
$$;
comment on function secretaria_reference._sharding() is
  'Stable; no locks. The setting secretaria.slots: auto adds shards to a counter once two sessions write it
at once, on at its first increment, off never. It changes how long a write takes, never an answer.';

create or replace function secretaria_reference._add_shards(p_company bigint, p_feature text)
returns void
language plpgsql
as $$
declare
  shards constant smallint := 16;
begin
  update secretaria.feature_usage u
  set slots = shards
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
    -- Only the first row announces thresholds.
    select u.company_id, u.feature, n, 0, 0, 100, u.period_start, u.period_end, u.valid_until, true, false, u.kind,
      u.reason, u.source
    from secretaria.feature_usage u
    cross join generate_series(1, shards) n
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
    order by n;
  end if;
end
$$;
comment on function secretaria_reference._add_shards(bigint, text) is
  'Volatile; locks the counter''s first row. Adds shards to a counter, without headroom yet. Credits are taken
in their order at each increment, so a feature with grants keeps its one row.';

create or replace function secretaria_reference._merge_shards(p_company bigint, p_feature text)
returns void
language plpgsql
as $$
declare
  given_away bigint;
  used_in_shards bigint;
begin
  select u.lent
  into given_away
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0
  for update;
  if given_away = 0 then
    return;
  end if;
  perform
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot > 0
  order by u.slot
  for update;
  used_in_shards := secretaria_reference._used_in_shards(p_company, p_feature);
  update secretaria.feature_usage u
  set used = u.used + used_in_shards,
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
comment on function secretaria_reference._merge_shards(bigint, text) is
  'Volatile; locks the counter''s first row, then, where shards have headroom, those in the order of their numbers.
Moves what they used and what they were given to the first row. 40001 at REPEATABLE READ where another session counted
meanwhile.';

create or replace function secretaria_reference._remove_shards(p_company bigint)
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
comment on function secretaria_reference._remove_shards(bigint) is
  'Volatile; the caller holds all rows of the company. Merges and deletes its shards, because its limits are about to
change.';

create or replace function secretaria_reference._headroom(p_counter secretaria.feature_usage)
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
comment on function secretaria_reference._headroom(secretaria.feature_usage) is
  'Immutable; no locks. How much the counter could count, beside what its shards were given, before it reaches its
limit or its next threshold; null: any amount.';

create or replace function secretaria_reference._rebalance(
  p_company bigint,
  p_feature text,
  p_shard smallint,
  p_amount bigint,
  p_period timestamptz,
  p_now timestamptz
)
returns boolean
language plpgsql
as $$
declare
  counter secretaria.feature_usage;
  shard secretaria.feature_usage;
  part bigint;
begin
  select u.*
  into counter
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0
  for update;
  if counter.slots < p_shard or counter.period_start <> p_period or counter.valid_until <= p_now
    or not counter.allowed or counter.lent is null and counter.limit_value is not null and not counter.soft
  then
    return false;
  end if;
  select u.*
  into strict shard
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = p_shard
  for update;
  -- First the shard's use moves to the counter, and what it did not use goes back.
  counter.used := counter.used + shard.used;
  counter.lent := counter.lent - shard.limit_value;
  part := secretaria_reference._headroom(counter) / (2 * counter.slots);
  if part < 8 * p_amount then
    return false;
  end if;
  update secretaria.feature_usage u
  set used = counter.used,
    lent = counter.lent + part
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0;
  update secretaria.feature_usage u
  set used = 0,
    limit_value = part,
    ceiling = part,
    period_start = counter.period_start,
    period_end = counter.period_end,
    valid_until = counter.valid_until
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = p_shard;
  return true;
end
$$;
comment on function secretaria_reference._rebalance(bigint, text, smallint, bigint, timestamptz, timestamptz) is
  'Volatile; locks the counter''s first row, then the shard. Gives the shard its part of half of the headroom that is
left; false, and nothing is changed, where that part is too small for eight such amounts.';

create or replace function secretaria_reference._add_to_shard(
  p_company bigint,
  p_feature text,
  p_shard smallint,
  p_amount bigint,
  p_period timestamptz,
  p_now timestamptz
)
returns boolean
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  update secretaria.feature_usage u
  set used = u.used + p_amount
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = p_shard
    and u.period_start = p_period
    and u.valid_until > p_now
    and (u.limit_value is null or u.used + p_amount <= u.limit_value);
  if found then
    return true;
  end if;
  -- A shard that others filled while this session waited for it is locked now, although nothing was written. Waiting for
  -- the first row with that lock would deadlock with the session that merges the shards: the exception undoes it.
  raise no_data_found;
exception
  when no_data_found then
    return false;
end
$$;
comment on function secretaria_reference._add_to_shard(bigint, text, smallint, bigint, timestamptz, timestamptz) is
  'Volatile; locks the shard where it has headroom for the amount, and adds it. Otherwise false, and this call leaves no lock.';

create or replace function secretaria_reference._count_in_shard(
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
  shard constant smallint := 1 + pg_backend_pid() % p_counter.slots;
  line secretaria.usage_events := p_line;
begin
  done := false;
  for attempt in 1..2
  loop
    exit when secretaria_reference._add_to_shard(
      p_line.company_id, p_line.feature, shard, p_line.amount, p_line.period_start, p_now);
    if attempt = 2 or not secretaria_reference._rebalance(
      p_line.company_id, p_line.feature, shard, p_line.amount, p_line.period_start, p_now)
    then
      return;
    end if;
  end loop;
  -- What others have used since this statement began is not included: the ledger has the exact sum.
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
    -- Another session booked this key meanwhile: the next read finds its line.
    update secretaria.feature_usage u
    set used = u.used - p_line.amount
    where u.company_id = p_line.company_id
      and u.feature = p_line.feature
      and u.slot = shard;
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
comment on function secretaria_reference._count_in_shard(secretaria.usage_events, timestamptz, secretaria.feature_usage) is
  'Volatile; locks one shard of the counter (its first row too, when the shard needs headroom), then the key''s ledger
line. Counts in the shard of this session, where no limit or threshold can be reached; done is false, and nothing is
left, where that was not possible.';
