-- What callers of their own count in bulk: recorded like the facts, and each item answered like a call of its own.
-- Joins are hashed: merging would sort texts by the collation of the database, which takes longer.

create or replace function secretaria_reference._lines_of_bulk(
  p_companies bigint[],
  p_features text[],
  p_amounts bigint[],
  p_keys text[],
  p_at timestamptz[],
  p_now timestamptz,
  p_counter_companies bigint[],
  p_counter_features text[],
  p_kinds text[],
  p_used bigint[],
  p_limits bigint[],
  p_starts timestamptz[],
  p_ends timestamptz[],
  p_zones text[]
)
returns table (
  company bigint,
  key text,
  feature text,
  amount bigint,
  at timestamptz,
  day date,
  payload_hash bytea,
  limit_value bigint,
  period_start timestamptz,
  period_end timestamptz
)
language sql
stable
as $$
  select distinct on (a.company, a.key collate "C")
    a.company, a.key, a.feature, a.amount, a.at, (a.at at time zone coalesce(c.zone, 'UTC'))::date,
    h.payload_hash, c.limit_value,
    case when a.at >= c.period_start then c.period_start end,
    case when a.at >= c.period_start then c.period_end end
  from (
    select i.company, i.feature, i.amount, i.key, coalesce(i.at, p_now) as at, i.ord
    from unnest(p_companies, p_features, p_amounts, p_keys, p_at) with ordinality
      as i (company, feature, amount, key, at, ord)
  ) a
  join unnest(
      p_counter_companies, p_counter_features, p_kinds, p_used, p_limits, p_starts, p_ends, p_zones)
    as c (company, feature, kind, used, limit_value, period_start, period_end, zone)
    on c.company = a.company
    and c.feature = a.feature
  join (
    -- Many items ask the same of a feature, and hashing is dearer than a look.
    select i.feature, i.amount, sha256(convert_to(i.feature || '|' || i.amount || '|allow', 'UTF8')) as payload_hash
    from unnest(p_features, p_amounts) as i (feature, amount)
    group by i.feature, i.amount
  ) h
    on h.feature = a.feature
    and h.amount = a.amount
  where secretaria_reference._refused_in_bulk(
    a.company, a.feature, a.amount, a.key, a.at, c.kind, c.used, p_now - interval '35 days',
    p_now + interval '5 minutes') is null
  order by a.company, a.key collate "C", a.ord
$$;
comment on function secretaria_reference._lines_of_bulk(
  bigint[], text[], bigint[], text[], timestamptz[], timestamptz, bigint[], text[], text[], bigint[], bigint[],
  timestamptz[], timestamptz[], text[]) is
  'Stable; no locks. The lines of the ledger that a bulk call comes to if none is known, in key order. No period: it is
one that was closed. Plain enough to become part of the statement that asks for it.';

create or replace function secretaria_reference._book_bulk(
  p_companies bigint[],
  p_features text[],
  p_amounts bigint[],
  p_keys text[],
  p_at timestamptz[],
  p_now timestamptz,
  p_counter_companies bigint[],
  p_counter_features text[],
  p_kinds text[],
  p_used bigint[],
  p_limits bigint[],
  p_starts timestamptz[],
  p_ends timestamptz[],
  p_zones text[],
  out booked bigint,
  out booked_companies bigint[],
  out booked_keys text[],
  out companies bigint[],
  out features text[],
  out periods timestamptz[],
  out amounts bigint[]
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_nestloop = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  begin
    -- Most calls bring nothing that is known, and looking each key up first would take a quarter of the time.
    with booked as (
      insert into secretaria.usage_events as e
        (company_id, idempotency_key, feature, amount, occurred_at, day, payload_hash, limit_value, period_start,
          period_end)
      select l.company, l.key, l.feature, l.amount, l.at, l.day, l.payload_hash, l.limit_value,
        coalesce(l.period_start, secretaria_reference._closed_period(l.company, l.feature, l.at)), l.period_end
      from secretaria_reference._lines_of_bulk(
        p_companies, p_features, p_amounts, p_keys, p_at, p_now, p_counter_companies, p_counter_features, p_kinds,
        p_used, p_limits, p_starts, p_ends, p_zones) l
      returning e.company_id, e.idempotency_key, e.feature, e.period_start, e.amount
    )
    select sum(d.events), array_agg(d.company_id), array_agg(d.feature), array_agg(d.period_start), array_agg(d.amount),
      case when sum(d.events) < cardinality(p_keys) then (select array_agg(b.company_id) from booked b) end,
      case when sum(d.events) < cardinality(p_keys) then (select array_agg(b.idempotency_key) from booked b) end
    into booked, companies, features, periods, amounts, booked_companies, booked_keys
    from (
      select b.company_id, b.feature, b.period_start, sum(b.amount)::bigint as amount, count(*) as events
      from booked b
      group by b.company_id, b.feature, b.period_start
    ) d;
    return;
  exception
    when unique_violation then null;
  end;
  with booked as (
    insert into secretaria.usage_events as e
      (company_id, idempotency_key, feature, amount, occurred_at, day, payload_hash, limit_value, period_start,
        period_end)
    select l.company, l.key, l.feature, l.amount, l.at, l.day, l.payload_hash, l.limit_value,
      coalesce(l.period_start, secretaria_reference._closed_period(l.company, l.feature, l.at)), l.period_end
    from secretaria_reference._lines_of_bulk(
      p_companies, p_features, p_amounts, p_keys, p_at, p_now, p_counter_companies, p_counter_features, p_kinds,
      p_used, p_limits, p_starts, p_ends, p_zones) l
    on conflict do nothing
    returning e.company_id, e.idempotency_key, e.feature, e.period_start, e.amount
  )
  select sum(d.events), array_agg(d.company_id), array_agg(d.feature), array_agg(d.period_start), array_agg(d.amount),
    case when sum(d.events) < cardinality(p_keys) then (select array_agg(b.company_id) from booked b) end,
    case when sum(d.events) < cardinality(p_keys) then (select array_agg(b.idempotency_key) from booked b) end
  into booked, companies, features, periods, amounts, booked_companies, booked_keys
  from (
    select b.company_id, b.feature, b.period_start, sum(b.amount)::bigint as amount, count(*) as events
    from booked b
    group by b.company_id, b.feature, b.period_start
  ) d;
end
$$;
comment on function secretaria_reference._book_bulk(
  bigint[], text[], bigint[], text[], timestamptz[], timestamptz, bigint[], text[], text[], bigint[], bigint[],
  timestamptz[], timestamptz[], text[]) is
  'Volatile; locks ledger lines in key order. Books what is not refused and not known yet. Answers what that comes to
for each counter and period, and which keys it booked where it did not book all.';

create or replace function secretaria_reference.increment_feature_usage_bulk(
  company_ids bigint[],
  features text[],
  amounts bigint[],
  idempotency_keys text[],
  occurred_at timestamptz[]
)
returns table (
  ord integer,
  accepted boolean,
  reason text,
  duplicate boolean,
  used_before bigint,
  used_after bigint,
  reserved bigint,
  limit_value bigint,
  remaining bigint,
  overage bigint,
  thresholds_crossed smallint[],
  period_start timestamptz,
  period_end timestamptz,
  event_id text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  asked_at timestamptz := secretaria_reference._now();
  items integer;
  keys text[] := idempotency_keys;
  counters record;
  done record;
  counted record;
begin
  perform secretaria_reference._authorise(0, 'manage');
  items := secretaria_reference._same_length(
    cardinality(company_ids), cardinality(features), cardinality(amounts), cardinality(idempotency_keys),
    cardinality(occurred_at));
  if array_position(keys, null) is not null then
    keys := array(
      select coalesce(a.key, gen_random_uuid()::text)
      from unnest(keys) with ordinality as a (key, ord)
      order by a.ord);
  end if;
  counters := secretaria_reference._prepare_bulk(company_ids, features, asked_at, true);
  done := secretaria_reference._book_bulk(
    company_ids, features, amounts, keys, occurred_at, asked_at, counters.companies, counters.features, counters.kinds,
    counters.used, counters.limits, counters.starts, counters.ends, counters.zones);
  counted := secretaria_reference._count_bulk(done.companies, done.features, done.periods, done.amounts, asked_at);
  if done.booked = items and cardinality(counted.companies) = cardinality(done.companies) then
    -- All of it is new and of running periods: what came after an item in this call is not part of what it left behind.
    return query
    select t.ord, true, 'ok'::text, false, t.after - t.amount, t.after, t.reserved, t.limit_value,
      case when t.limit_value is not null then greatest(t.limit_value - t.after - t.reserved, 0) end,
      coalesce(greatest(t.after - t.limit_value, 0), 0),
      case when coalesce(t.after < t.limit_value / 5 * 4, true) then '{}' else
        secretaria_reference._thresholds_between(t.after - t.amount, t.after, t.limit_value, t.fired)
      end,
      t.period_start, t.period_end, t.key
    from (
      select a.ord::integer, a.amount, a.key, c.reserved, c.limit_value, c.period_start, c.period_end, c.fired,
        c.used - c.added
          + sum(a.amount) over (partition by c.position order by a.ord rows unbounded preceding)::bigint as after
      from unnest(company_ids, features, amounts, keys) with ordinality as a (company, feature, amount, key, ord)
      join unnest(
          counted.companies, counted.features, counted.periods, counted.ends, counted.limits, counted.used,
          counted.reserved, counted.added, counted.fired) with ordinality
        as c (company, feature, period_start, period_end, limit_value, used, reserved, added, fired, position)
        on c.company = a.company
        and c.feature = a.feature
    ) t
    order by t.ord;
  else
    return query
    select r.*
    from secretaria_reference._answers_counted(
      company_ids, features, amounts, keys, occurred_at, asked_at, counters.companies, counters.features,
      counters.kinds, counters.used, case when done.booked = items then company_ids else done.booked_companies end,
      case when done.booked = items then keys else done.booked_keys end,
      counted.companies, counted.features, counted.periods, counted.fired) r;
  end if;
end
$$;
comment on function secretaria_reference.increment_feature_usage_bulk(
  bigint[], text[], bigint[], text[], timestamptz[]) is
  'Volatile; locks ledger lines, then counters, until the transaction ends, each in key order. Records what was used, on
beyond the limit, one answer an item: ok, duplicate, feature_not_found, invalid_amount, invalid_argument, invalid_time,
key_conflict, overflow (above 10^14). Needs manage. 22004 a null array, 22023 unequal lengths, 40001 and 40P01 to be
tried again.';
