-- The reservations of many calls at once, for the processors: each counter is locked and written once, however many of
-- its reservations there are. One by one, a company with many calls under way makes them wait for each other.

create or replace function secretaria_reference._reserve_many(
  p_companies bigint[],
  p_feature text,
  p_amounts bigint[],
  p_ttl interval,
  p_keys text[]
)
returns table (ord integer, allowed boolean, reason text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  singly integer[];
begin
  perform secretaria_reference._authorise(0, 'manage');
  if p_ttl is null or at + p_ttl <= at or at + p_ttl > at + interval '24 hours' then
    raise exception 'ttl % is not within 24 hours', p_ttl using errcode = 'invalid_parameter_value';
  end if;
  -- All of them first and in one order: calls of other companies' counters do not make a circle with this one.
  perform
  from secretaria.feature_usage u
  where u.company_id = any (p_companies)
    and u.feature = p_feature
    and u.slot = 0
  order by u.company_id
  for update;
  with asked as materialized (
    select a.ord::integer, a.company, a.amount, a.key
    from unnest(p_companies, p_amounts, p_keys) with ordinality a (company, amount, key, ord)
  ), roomy as materialized (
    -- Counters with headroom for all that is asked of them, none of it in shards, and not out of date.
    select u.company_id, u.period_start
    from (
      select a.company, sum(a.amount)::bigint as amount
      from asked a
      group by a.company
      having min(a.amount) > 0
        and count(a.amount) = count(*)
        and count(distinct a.key) = count(*)
        and max(length(a.key)) between 1 and 255
        and sum(a.amount) <= 100000000000000
    ) s
    join secretaria.feature_usage u on u.company_id = s.company
      and u.feature = p_feature
      and u.slot = 0
    where u.kind = 'metered'
      and u.lent = 0
      and at < u.valid_until
      and at < u.period_end
      and u.reason <> 'feature_not_found'
      and secretaria_reference._refusal(
        s.amount, 'reject', 0, u.allowed, u.reason, u.soft, u.limit_value, u.used, u.reserved) is null
  ), held as (
    insert into secretaria.usage_reservations
      (company_id, feature, amount, period_start, expires_at, idempotency_key, created_at)
    select a.company, p_feature, a.amount, r.period_start, at + p_ttl, a.key, at
    from asked a
    join roomy r on r.company_id = a.company
    order by a.company, a.key
    on conflict do nothing
    returning company_id, idempotency_key, amount
  ), counted as (
    update secretaria.feature_usage u
    set reserved = u.reserved + h.amount
    from (
      select h.company_id, sum(h.amount)::bigint as amount
      from held h
      group by h.company_id
    ) h
    where u.company_id = h.company_id
      and u.feature = p_feature
      and u.slot = 0
  )
  select array_agg(a.ord order by a.ord)
  into singly
  from asked a
  where not exists (
    select
    from held h
    where h.company_id = a.company
      and h.idempotency_key = a.key
  );
  return query
    select a.ord::integer, true, 'ok'
    from unnest(p_companies) with ordinality a (company, ord)
    where a.ord <> all (coalesce(singly, '{}'));
  -- Near a limit, for the first time in a period, or asked before: as one call of many kinds.
  return query
    select s.ord, r.allowed, r.reason
    from unnest(singly) s (ord)
    cross join lateral secretaria_reference.reserve_feature_usage(
      p_companies[s.ord], p_feature, p_amounts[s.ord], p_ttl, p_keys[s.ord]) r;
end
$$;
comment on function secretaria_reference._reserve_many(bigint[], text, bigint[], interval, text[]) is
  'Volatile; locks the counters'' rows in the order of companies, then the keys'' reservations, until the transaction
ends. What reserve_feature_usage says to each, in no order, but for soft_limit_exceeded: where there is headroom the
reason is ok. Keys are the caller''s alone: two transactions that use one key at once may end in 40P01. 42501 for who
may not manage, else as that.';

create or replace function secretaria_reference._release_many(p_companies bigint[], p_keys text[])
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := secretaria_reference._now();
begin
  perform secretaria_reference._authorise(0, 'manage');
  with taken as materialized (
    select r.company_id, r.reservation_id, r.feature, r.amount, r.period_start, r.expires_at
    from (
      select distinct a.company, a.key
      from unnest(p_companies, p_keys) a (company, key)
    ) k
    join secretaria.usage_reservations r on r.company_id = k.company
      and r.idempotency_key = k.key
    where r.state = 'held'
    order by r.company_id, r.reservation_id
    for update of r
  ), ended as (
    update secretaria.usage_reservations r
    set state = case when t.expires_at <= at then 'expired' else 'released' end, settled_at = at
    from taken t
    where r.company_id = t.company_id
      and r.reservation_id = t.reservation_id
  ), counters as materialized (
    select u.company_id, u.feature, s.amount
    from (
      select t.company_id, t.feature, t.period_start, sum(t.amount)::bigint as amount
      from taken t
      group by t.company_id, t.feature, t.period_start
    ) s
    join secretaria.feature_usage u on u.company_id = s.company_id
      and u.feature = s.feature
      and u.slot = 0
      and u.period_start = s.period_start
    order by u.company_id, u.feature
    for update of u
  )
  update secretaria.feature_usage u
  set reserved = greatest(u.reserved - c.amount, 0)
  from counters c
  where u.company_id = c.company_id
    and u.feature = c.feature
    and u.slot = 0;
end
$$;
comment on function secretaria_reference._release_many(bigint[], text[]) is
  'Volatile; locks reservations in the order of company and id, then the counters'' rows in the order of company and
feature, until the transaction ends. Gives back what these keys hold; nothing where they hold nothing. 42501 for who
may not manage.';
