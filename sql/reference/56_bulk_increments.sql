-- What callers of their own count in bulk: recorded like the facts, and each item answered like a call of its own.

create or replace function secretaria_reference._answers_counted(
  p_companies bigint[],
  p_features text[],
  p_amounts bigint[],
  p_keys text[],
  p_payloads text[],
  p_refused text[],
  p_fresh integer[],
  p_periods timestamptz[]
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
begin
  return query
  with item as materialized (
    select r.ord, r.accepted, r.reason, r.duplicate, a.company, a.feature, a.amount, a.key,
      coalesce(f.period, e.period_start) as period, e.used_before, e.used_after, e.thresholds,
      -- What came after it in this call is not part of what it left behind.
      coalesce(sum(case when r.duplicate then 0 else a.amount end) over (
        partition by a.company, a.feature, f.period
        order by r.ord
        rows between 1 following and unbounded following), 0)::bigint as later
    from secretaria_reference._answers(p_companies, p_keys, p_payloads, p_refused, p_fresh) r
    join unnest(p_companies, p_features, p_amounts, p_keys) with ordinality as a (company, feature, amount, key, ord)
      on a.ord = r.ord
    left join unnest(p_fresh, p_periods) as f (ord, period)
      on f.ord = r.ord
    left join secretaria.usage_events e
      on e.company_id = a.company
      and e.idempotency_key = case when r.duplicate then a.key end
  ),
  counters as materialized (
    select g.company, g.feature, g.period, c.used, c.reserved, c.limit_value, c.period_end
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
  ),
  told as (
    select i.ord, i.accepted, i.reason, i.duplicate, i.period, i.key, i.thresholds, c.reserved, c.limit_value,
      c.period_end,
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
    case when t.duplicate then coalesce(t.thresholds, '{}') else array(
      select v.threshold
      from unnest(array[80, 100]::smallint[]) as v (threshold)
      where t.limit_value > 0
        and t.before::numeric * 100 < v.threshold * t.limit_value::numeric
        and t.after::numeric * 100 >= v.threshold * t.limit_value::numeric
    ) end,
    case when t.accepted then t.period end, t.period_end, t.key
  from told t
  order by t.ord;
end
$$;
comment on function secretaria_reference._answers_counted(
  bigint[], text[], bigint[], text[], text[], text[], integer[], timestamptz[]) is
  'Stable; no locks. As _answers, with where each item left its counter.';

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
set jit = off
as $$
#variable_conflict use_column
declare
  asked_at timestamptz := secretaria_reference._now();
  instants timestamptz[];
  keys text[];
  payloads text[];
  refused text[];
  fresh integer[];
  periods timestamptz[];
begin
  perform secretaria_reference._authorise(0, 'manage');
  perform secretaria_reference._same_length(
    cardinality(company_ids), cardinality(features), cardinality(amounts), cardinality(idempotency_keys),
    cardinality(occurred_at));
  select
    array_agg(coalesce(a.key, gen_random_uuid()::text) order by a.ord),
    array_agg(coalesce(a.at, asked_at) order by a.ord),
    array_agg(concat_ws('|', a.feature, a.amount, 'allow') order by a.ord)
  into keys, instants, payloads
  from unnest(features, amounts, idempotency_keys, occurred_at) with ordinality as a (feature, amount, key, at, ord);
  perform secretaria_reference._prepare_bulk(company_ids, features, asked_at, true);
  select array_agg(
    case
      when a.company is null or a.feature is null or a.amount is null or length(a.key) not between 1 and 255
        then 'invalid_argument'
      when u.kind is distinct from 'metered' or u.reason = 'feature_not_found' then 'feature_not_found'
      when a.amount < 0 then 'invalid_amount'
      when a.amount > 100000000000000 or u.used > 4000000000000000000 then 'overflow'
      when a.at < asked_at - interval '35 days'
        or a.at > asked_at + interval '5 minutes' then 'invalid_time'
    end order by a.ord)
  into refused
  from unnest(company_ids, features, amounts, keys, instants) with ordinality
    as a (company, feature, amount, key, at, ord)
  left join secretaria.feature_usage u
    on u.company_id = a.company
    and u.feature = a.feature
    and u.slot = 0;
  select r.fresh, r.periods
  into fresh, periods
  from secretaria_reference._record(
    company_ids, features, null, null, amounts, null, null, null, keys, payloads, instants, refused, asked_at) r;
  return query
  select r.*
  from secretaria_reference._answers_counted(
    company_ids, features, amounts, keys, payloads, refused, fresh, periods) r;
end
$$;
comment on function secretaria_reference.increment_feature_usage_bulk(
  bigint[], text[], bigint[], text[], timestamptz[]) is
  'Volatile; locks ledger lines, then counters, until the transaction ends, each in key order. Records what was used, on
beyond the limit, one answer an item: ok, duplicate, feature_not_found, invalid_amount, invalid_argument, invalid_time,
key_conflict, overflow (above 10^14). Needs manage. 22004 a null array, 22023 unequal lengths, 40001 and 40P01 to be
tried again.';

do $$
declare
  callable text;
  internal text;
begin
  foreach internal in array array[
    '_answers_counted(bigint[], text[], bigint[], text[], text[], text[], integer[], timestamptz[])'
  ]
  loop
    execute format('alter function secretaria_reference.%s owner to secretaria_quota', internal);
    execute format('revoke all on function secretaria_reference.%s from public', internal);
  end loop;
  -- These ask for themselves who calls them.
  foreach callable in array array[
    'increment_feature_usage_bulk(bigint[], text[], bigint[], text[], timestamptz[])'
  ]
  loop
    execute format('alter function secretaria_reference.%s owner to secretaria_quota', callable);
    execute format('grant execute on function secretaria_reference.%s to public', callable);
  end loop;
end
$$;
