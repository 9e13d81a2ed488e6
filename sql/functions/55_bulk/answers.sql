-- What each item of a bulk call is told: that it is no item, or where it left its counter.

create or replace function secretaria_reference._refused_in_bulk(
  p_company bigint,
  p_feature text,
  p_amount bigint,
  p_key text,
  p_at timestamptz,
  p_kind text,
  p_used bigint,
  p_oldest timestamptz,
  p_newest timestamptz
)
returns text
language sql
immutable
parallel safe
as $$
  select case
    when p_company is null or p_feature is null or p_amount is null or length(p_key) not between 1 and 255
      then 'invalid_argument'
    when p_kind is distinct from 'metered' then 'feature_not_found'
    when p_amount < 0 then 'invalid_amount'
    when p_amount > 100000000000000 or p_used > 4000000000000000000 then 'overflow'
    when p_at < p_oldest or p_at > p_newest then 'invalid_time'
  end
$$;
comment on function secretaria_reference._refused_in_bulk(
  bigint, text, bigint, text, timestamptz, text, bigint, timestamptz, timestamptz) is
  'Immutable; no locks. Why an item is not booked whatever happens; null otherwise. Bounds of its instant are
inclusive.';

create or replace function secretaria_reference._thresholds_between(
  p_before bigint,
  p_after bigint,
  p_limit bigint,
  p_fired smallint
)
returns smallint[]
language sql
immutable
parallel safe
as $$
  select array(
    select v.threshold
    from unnest(array[80, 100]::smallint[]) as v (threshold)
    where p_limit > 0
      and v.threshold > p_fired
      and p_before::numeric * 100 < v.threshold * p_limit::numeric
      and p_after::numeric * 100 >= v.threshold * p_limit::numeric
  )
$$;
comment on function secretaria_reference._thresholds_between(bigint, bigint, bigint, smallint) is
  'Immutable; no locks. The thresholds (80, 100) that use passes on its way from one number to another, above the one
that has fired.';

create or replace function secretaria_reference._answers_counted(
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
  p_booked_companies bigint[],
  p_booked_keys text[],
  p_counted_companies bigint[],
  p_counted_features text[],
  p_counted_periods timestamptz[],
  p_fired smallint[]
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
stable
rows 10000
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
declare
  oldest constant timestamptz := p_now - interval '35 days';
  newest constant timestamptz := p_now + interval '5 minutes';
begin
  return query
  with asked as materialized (
    select a.*,
      -- Of items with one key the first was booked.
      row_number() over (partition by a.company, a.key order by a.ord) as turn,
      secretaria_reference._refused_in_bulk(
        a.company, a.feature, a.amount, a.key, a.at, c.kind, c.used, oldest, newest) as refused
    from unnest(p_companies, p_features, p_amounts, p_keys, p_at) with ordinality
      as a (company, feature, amount, key, at, ord)
    left join unnest(p_counter_companies, p_counter_features, p_kinds, p_used) as c (company, feature, kind, used)
      on c.company = a.company
      and c.feature = a.feature
  ),
  judged as (
    select a.ord::integer as ord, a.company, a.feature, a.amount, a.key, a.refused, e.used_before, e.used_after,
      e.thresholds, e.period_start as period, e.company_id is not null as known,
      coalesce(
        e.payload_hash = sha256(convert_to(concat_ws('|', a.feature, a.amount, 'allow'), 'UTF8')),
        e.company_id is not null) as same,
      b.key is not null
        and a.turn = min(a.turn) filter (where a.refused is null) over (partition by a.company, a.key) as booked
    from asked a
    left join unnest(p_booked_companies, p_booked_keys) as b (company, key)
      on b.company = a.company
      and b.key = a.key
      and a.refused is null
    left join secretaria.usage_events e
      on e.company_id = a.company
      and e.idempotency_key = a.key
      and a.refused is null
  ),
  item as materialized (
    select j.ord, j.company, j.feature, j.amount, j.key, j.period, j.used_before, j.used_after, j.thresholds,
      j.refused is null and (j.booked or j.same) as accepted,
      j.refused is null and not j.booked and j.same as duplicate,
      case
        when j.refused is not null then j.refused
        when j.booked then 'ok'
        when j.same then 'duplicate'
        else 'key_conflict'
      end as reason,
      -- What came after it in this call is not part of what it left behind.
      coalesce(sum(j.amount) filter (where j.booked) over (
        partition by j.company, j.feature, j.period
        order by j.ord
        rows between 1 following and unbounded following), 0)::bigint as later
    from judged j
  ),
  counters as materialized (
    -- Nothing is announced of a period that is over.
    select g.company, g.feature, g.period, c.used, c.reserved, c.limit_value, c.period_end,
      coalesce(f.fired, 100::smallint) as fired
    from (
      select distinct i.company, i.feature, i.period
      from item i
      where i.accepted
    ) g
    cross join lateral (
      select u.used, u.reserved, u.limit_value, u.period_end
      from secretaria.feature_usage u
      where u.company_id = g.company
        and u.feature = g.feature
        and u.slot = 0
        and u.period_start = g.period
      union all
      select p.used, 0, p.limit_value, p.period_end
      from secretaria.feature_usage_periods p
      where p.company_id = g.company
        and p.feature = g.feature
        and p.period_start = g.period
      limit 1
    ) c
    left join unnest(p_counted_companies, p_counted_features, p_counted_periods, p_fired)
        as f (company, feature, period, fired)
      on f.company = g.company
      and f.feature = g.feature
      and f.period = g.period
  ),
  told as (
    select i.ord, i.accepted, i.reason, i.duplicate, i.period, i.key, i.thresholds, c.reserved, c.limit_value,
      c.period_end, c.fired,
      case when i.duplicate then i.used_before else c.used - i.later - i.amount end as before,
      case when i.duplicate then i.used_after else c.used - i.later end as after
    from item i
    left join counters c
      on c.company = i.company
      and c.feature = i.feature
      and c.period = i.period
      and i.accepted
  )
  select t.ord, t.accepted, t.reason, t.duplicate, t.before, t.after, t.reserved, t.limit_value,
    case when t.limit_value is not null then greatest(t.limit_value - t.after - t.reserved, 0) end,
    coalesce(greatest(t.after - t.limit_value, 0), 0),
    case
      when t.duplicate then coalesce(t.thresholds, '{}')
      else secretaria_reference._thresholds_between(t.before, t.after, t.limit_value, t.fired)
    end,
    case when t.accepted then t.period end, t.period_end, t.key
  from told t
  order by t.ord;
end
$$;
comment on function secretaria_reference._answers_counted(
  bigint[], text[], bigint[], text[], timestamptz[], timestamptz, bigint[], text[], text[], bigint[], bigint[], text[],
  bigint[], text[], timestamptz[], smallint[]) is
  'Stable; no locks. What became of each item (refused for a reason, booked now, booked before, or its key taken) and
where that left its counter.';
