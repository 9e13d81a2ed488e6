-- Thousands of facts in one call: deduplicated, summed by counter, and booked in the order every writer uses.
-- A plan that is made for a call carries its arrays in it, and copying them takes as long as a join: where the settings
-- of a function leave one shape, its plans are kept. Compiling them would take longer than they run.

create or replace function secretaria_reference._prepare_bulk(
  p_companies bigint[],
  p_features text[],
  p_now timestamptz,
  p_resolve boolean,
  out companies bigint[],
  out features text[],
  out kinds text[],
  out used bigint[],
  out limits bigint[],
  out starts timestamptz[],
  out ends timestamptz[],
  out zones text[]
)
language plpgsql
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
  stale boolean[];
  row record;
begin
  for attempt in 1..2
  loop
    select array_agg(a.company), array_agg(a.feature), array_agg(u.kind), array_agg(u.used), array_agg(u.limit_value),
      array_agg(u.period_start), array_agg(u.period_end), array_agg(c.time_zone),
      array_agg(coalesce(p_now >= least(u.valid_until, u.period_end), p_resolve and c.company_id is not null))
    into companies, features, kinds, used, limits, starts, ends, zones, stale
    from (
      -- Sorted as the rows are looked up, which finds neighbours together.
      select b.company, b.feature
      from unnest(p_companies, p_features) as b (company, feature)
      where b.company is not null
        and b.feature is not null
      group by b.company, b.feature
      order by b.company, b.feature collate "C"
    ) a
    left join secretaria.companies c
      on c.company_id = a.company
    left join lateral (
      select n.*
      from secretaria.feature_usage n
      where n.company_id = a.company
        and n.feature = a.feature
        and n.slot = 0
        and n.reason <> 'feature_not_found'
      limit 1
    ) u
      on true;
    exit when attempt = 2 or companies is null or not true = any (stale);
    for row in
      select p.company
      from unnest(companies, features, kinds, stale) as p (company, feature, kind, stale)
      where p.stale
        and (p.kind is not null or exists (
          select
          from secretaria.features_catalog f
          where f.feature = p.feature
            and f.status <> 'archived'
        ))
      group by p.company
      order by p.company
    loop
      perform secretaria_reference._materialise(row.company, p_now);
    end loop;
  end loop;
end
$$;
comment on function secretaria_reference._prepare_bulk(bigint[], text[], timestamptz, boolean) is
  'Volatile; locks as _materialise does, in key order, and only where rows are out of date or (p_resolve) are missing.
Each counter that is asked for, once, as it then stands; kinds are null where there is none.';

create or replace function secretaria_reference._record(
  p_companies bigint[],
  p_features text[],
  p_facts text[],
  p_models text[],
  p_amounts bigint[],
  p_read bigint[],
  p_written bigint[],
  p_cached bigint[],
  p_keys text[],
  p_payloads text[],
  p_at timestamptz[],
  p_refused text[],
  p_now timestamptz,
  out fresh integer[],
  out periods timestamptz[]
)
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
declare
  b record;
begin
  with asked as materialized (
    select a.*
    from unnest(p_companies, p_features, p_facts, p_models, p_amounts, p_read, p_written, p_cached, p_keys, p_payloads,
        p_at, p_refused)
      with ordinality
      as a (company, feature, fact, model, amount, read, written, cached, key, payload, at, refused, ord)
    where a.refused is null
  ),
  booked as (
    insert into secretaria.usage_events as e
      (company_id, idempotency_key, fact, feature, model, amount, tokens_in, tokens_out, tokens_cached, occurred_at,
        day, payload_hash, limit_value, period_start, period_end)
    select distinct on (a.company, a.key collate "C")
      a.company, a.key, a.fact, u.feature, coalesce(a.model, ''), a.amount, coalesce(a.read, 0), coalesce(a.written, 0),
      coalesce(a.cached, 0), a.at, (a.at at time zone coalesce(c.time_zone, 'UTC'))::date,
      sha256(convert_to(a.payload, 'UTF8')), u.limit_value,
      case
        when a.at >= u.period_start then u.period_start
        when u.feature is not null then secretaria_reference._closed_period(a.company, a.feature, a.at)
      end,
      case when a.at >= u.period_start then u.period_end end
    from asked a
    left join secretaria.companies c
      on c.company_id = a.company
    left join secretaria.feature_usage u
      on u.company_id = a.company
      and u.feature = a.feature
      and u.slot = 0
      and u.reason <> 'feature_not_found'
    order by a.company, a.key collate "C", a.ord
    on conflict do nothing
    returning e.company_id, e.idempotency_key, e.fact, e.feature, e.model, e.day, e.amount, e.tokens_in, e.tokens_out,
      e.tokens_cached, e.period_start
  )
  select array_agg(a.ord) as ords, array_agg(e.company_id) as companies, array_agg(e.fact) as facts,
    array_agg(e.feature) as features, array_agg(e.model) as models, array_agg(e.day) as days,
    array_agg(e.amount) as amounts, array_agg(e.tokens_in) as read, array_agg(e.tokens_out) as written,
    array_agg(e.tokens_cached) as cached, array_agg(e.period_start) as periods
  into b
  from booked e
  join (
    select a.company, a.key, min(a.ord)::integer as ord
    from asked a
    group by a.company, a.key
  ) a
    on a.company = e.company_id
    and a.key = e.idempotency_key;
  fresh := coalesce(b.ords, '{}');
  periods := coalesce(b.periods, '{}');
  if fresh <> '{}' then
    perform secretaria_reference._count_bulk(b.companies, b.features, b.periods, b.amounts, p_now);
    if p_facts is not null then
      perform secretaria_reference._sum_up(
        b.companies, b.facts, b.models, b.days, b.amounts, b.read, b.written, b.cached);
    end if;
  end if;
end
$$;
comment on function secretaria_reference._record(
  bigint[], text[], text[], text[], bigint[], bigint[], bigint[], bigint[], text[], text[], timestamptz[], text[],
  timestamptz) is
  'Volatile; locks ledger lines, counters, daily totals and monthly sums, in this order and each in key order. Books
what is not refused and not known yet; answers the places (from 1)
of what it booked, and the periods.';

create or replace function secretaria_reference._answers(
  p_companies bigint[],
  p_keys text[],
  p_payloads text[],
  p_refused text[],
  p_fresh integer[]
)
returns table (ord integer, accepted boolean, reason text, duplicate boolean)
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
    select a.ord::integer as ord, a.company, a.payload, a.refused, f.ord is not null as booked,
      -- No key, no look: most items are not in question.
      case when f.ord is null and a.refused is null then a.key end as known_key
    from unnest(p_companies, p_keys, p_payloads, p_refused) with ordinality as a (company, key, payload, refused, ord)
    left join unnest(p_fresh) as f (ord)
      on f.ord = a.ord
  ),
  compared as (
    select i.*,
      e.company_id is not null
        and coalesce(e.payload_hash = sha256(convert_to(i.payload, 'UTF8')), true) as same
    from item i
    left join secretaria.usage_events e
      on e.company_id = i.company
      and e.idempotency_key = i.known_key
  )
  select
    c.ord,
    c.booked or c.same,
    case
      when c.refused is not null then c.refused
      when c.booked then 'ok'
      when c.same then 'duplicate'
      else 'key_conflict'
    end,
    c.same
  from compared c
  order by c.ord;
end
$$;
comment on function secretaria_reference._answers(bigint[], text[], text[], text[], integer[]) is
  'Stable; no locks. What became of each item: refused for a reason, booked now, booked before, or its key taken.';
