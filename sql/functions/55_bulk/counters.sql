-- The counters of a bulk call: all that run and whose shards have no headroom in one statement, the others one by one.

create or replace function secretaria_reference._count_late(
  p_companies bigint[],
  p_features text[],
  p_periods timestamptz[],
  p_amounts bigint[],
  p_counted_companies bigint[],
  p_counted_features text[],
  p_counted_periods timestamptz[],
  out companies bigint[],
  out features text[],
  out periods timestamptz[],
  out ends timestamptz[],
  out limits bigint[],
  out used bigint[],
  out reserved bigint[],
  out added bigint[],
  out fired smallint[]
)
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
declare
  late record;
  counter record;
begin
  for late in
    select b.company, b.feature, b.period, sum(b.amount)::bigint as amount
    from unnest(p_companies, p_features, p_periods, p_amounts) as b (company, feature, period, amount)
    left join unnest(p_counted_companies, p_counted_features, p_counted_periods) as c (company, feature, period)
      on c.company = b.company
      and c.feature = b.feature
      and c.period = b.period
    where b.feature is not null
      and c.company is null
    group by b.company, b.feature, b.period
    order by b.company, b.feature, b.period
  loop
    perform secretaria_reference._merge_shards(late.company, late.feature);
    update secretaria.feature_usage u
    set used = u.used + late.amount,
      ceiling = case when u.ceiling is not null then greatest(u.ceiling, u.used + late.amount + u.reserved) end
    where u.company_id = late.company
      and u.feature = late.feature
      and u.slot = 0
      and u.period_start = late.period
    returning u.*
    into counter;
    if found then
      companies := companies || late.company;
      features := features || late.feature;
      periods := periods || late.period;
      ends := ends || counter.period_end;
      limits := limits || counter.limit_value;
      used := used || counter.used;
      reserved := reserved || counter.reserved;
      added := added || late.amount;
      fired := fired || counter.fired_threshold;
      continue;
    end if;
    -- The period is over, or another session closed it a moment ago: the event is late and amends it.
    insert into secretaria.feature_usage_periods as p
      (company_id, feature, period_start, period_end, limit_value, used)
    select u.company_id, u.feature, late.period, u.period_start, u.limit_value, late.amount
    from secretaria.feature_usage u
    where u.company_id = late.company
      and u.feature = late.feature
      and u.slot = 0
    on conflict (company_id, feature, period_start) do update
    set used = p.used + excluded.used;
  end loop;
end
$$;
comment on function secretaria_reference._count_late(
  bigint[], text[], timestamptz[], bigint[], bigint[], text[], timestamptz[]) is
  'Volatile; locks counters and closed periods in key order. Adds one by one what _count_bulk has passed by: to
counters whose shards have headroom, which are merged, and to periods that are over. Answers the running counters, as
that does.';

create or replace function secretaria_reference._count_bulk(
  p_companies bigint[],
  p_features text[],
  p_periods timestamptz[],
  p_amounts bigint[],
  p_now timestamptz,
  out companies bigint[],
  out features text[],
  out periods timestamptz[],
  out ends timestamptz[],
  out limits bigint[],
  out used bigint[],
  out reserved bigint[],
  out added bigint[],
  out fired smallint[]
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  remarkable boolean[];
  passed_by boolean;
  late record;
  row record;
begin
  -- A loop over what is sorted, so that counters are locked in the order of every writer.
  with due as materialized (
    select b.company, b.feature, b.period, sum(b.amount)::bigint as amount
    from unnest(p_companies, p_features, p_periods, p_amounts) as b (company, feature, period, amount)
    where b.feature is not null
    group by b.company, b.feature, b.period
    order by b.company, b.feature, b.period
  ),
  counted as (
    update secretaria.feature_usage u
    set used = u.used + d.amount,
      ceiling = case when u.ceiling is not null then greatest(u.ceiling, u.used + d.amount + u.reserved) end
    from due d
    where u.company_id = d.company
      and u.feature = d.feature
      and u.slot = 0
      and u.lent = 0
      and u.period_start = d.period
    returning u.company_id, u.feature, u.period_start, u.period_end, u.limit_value, u.used, u.reserved, d.amount,
      u.fired_threshold, u.limit_value is not null and (
        u.fired_threshold < 100 and u.used >= u.limit_value / 5 * 4
        or exists (
          select
          from secretaria.usage_grants g
          where g.company_id = u.company_id
            and g.feature = u.feature
        )) as remarkable
  )
  select array_agg(c.company_id), array_agg(c.feature), array_agg(c.period_start), array_agg(c.period_end),
    array_agg(c.limit_value), array_agg(c.used), array_agg(c.reserved), array_agg(c.amount),
    array_agg(c.fired_threshold), array_agg(c.remarkable), (select count(*) from due) > count(*)
  into companies, features, periods, ends, limits, used, reserved, added, fired, remarkable, passed_by
  from counted c;
  if passed_by then
    late := secretaria_reference._count_late(
      p_companies, p_features, p_periods, p_amounts, companies, features, periods);
    companies := companies || late.companies;
    features := features || late.features;
    periods := periods || late.periods;
    ends := ends || late.ends;
    limits := limits || late.limits;
    used := used || late.used;
    reserved := reserved || late.reserved;
    added := added || late.added;
    fired := fired || late.fired;
    remarkable := remarkable || array_fill(true, array[coalesce(cardinality(late.companies), 0)]);
  end if;
  for row in
    select c.company, c.feature, c.used, c.added, c.limit_value
    from unnest(companies, features, used, added, limits, remarkable)
      as c (company, feature, used, added, limit_value, remarkable)
    where c.remarkable
      and c.limit_value is not null
    order by c.company, c.feature
  loop
    perform secretaria_reference._consume(row.company, row.feature, row.used, row.limit_value, p_now);
    perform secretaria_reference._fire(row.company, row.feature, row.used - row.added, row.used);
  end loop;
end
$$;
comment on function secretaria_reference._count_bulk(bigint[], text[], timestamptz[], bigint[], timestamptz) is
  'Volatile; locks counters in key order, then those whose shards have headroom. Adds booked amounts to the counters
of the periods they were booked in, closed ones too, takes from credits and announces thresholds. Answers the running
counters it added to: as they were left, how much was added, and the threshold that had fired before.';
