-- The ledger is what every counter can be checked against, and stays so when its old lines are deleted.

create or replace function secretaria_reference.verify_usage(company_id bigint default null)
returns table (
  company_id bigint,
  feature text,
  period_start timestamptz,
  counter bigint,
  ledger bigint,
  drift bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  -- An argument and a column of the answer share a name here, which only SQL functions may.
  select secretaria_reference._authorise(coalesce($1, 0), case when $1 is null then 'manage' else 'read' end);
  with counted as (
    select u.company_id, u.feature, u.period_start, u.used as amount
    from secretaria.feature_usage u
    where $1 is null
      or u.company_id = $1
    union all
    select p.company_id, p.feature, p.period_start, p.used
    from secretaria.feature_usage_periods p
    where $1 is null
      or p.company_id = $1
  ),
  booked as (
    select e.company_id, e.feature, e.period_start, e.amount
    from secretaria.usage_events e
    where e.feature is not null
      and ($1 is null or e.company_id = $1)
    union all
    select o.company_id, o.feature, o.period_start, o.amount
    from secretaria.usage_openings o
    where $1 is null
      or o.company_id = $1
  ),
  counters as (
    select c.company_id, c.feature, c.period_start, sum(c.amount) as amount
    from counted c
    group by 1, 2, 3
  ),
  ledgers as (
    select b.company_id, b.feature, b.period_start, sum(b.amount) as amount
    from booked b
    group by 1, 2, 3
  )
  select company_id, feature, period_start, coalesce(c.amount, 0)::bigint, coalesce(l.amount, 0)::bigint,
    (coalesce(c.amount, 0) - coalesce(l.amount, 0))::bigint
  from counters c
  full join ledgers l using (company_id, feature, period_start)
  where coalesce(c.amount, 0) <> coalesce(l.amount, 0)
  order by company_id, feature, period_start
$$;
comment on function secretaria_reference.verify_usage(bigint) is
  'Stable; no locks. Counters, running and closed, that are not what the ledger and its openings come to; no rows: all
is well. Every company (null) needs manage. 42501 another company.';

create or replace function secretaria_reference.trim_usage_events(
  older_than interval default '35 days',
  batch integer default 10000
)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before timestamptz := secretaria_reference._now() - older_than;
  done integer;
begin
  perform secretaria_reference._authorise(0, 'manage');
  if older_than is null or batch is null then
    raise exception 'older_than and batch cannot be null' using errcode = 'null_value_not_allowed';
  end if;
  if batch <= 0 then
    raise exception 'batch % is not above zero', batch using errcode = 'invalid_parameter_value';
  end if;
  -- One at a time: two would lock the same openings in different orders.
  lock table secretaria.usage_openings in share row exclusive mode;
  with deleted as (
    delete from secretaria.usage_events e
    using (
      select o.company_id, o.idempotency_key
      from secretaria.usage_events o
      where o.recorded_at < before
      limit batch
      for update skip locked
    ) o
    where e.company_id = o.company_id
      and e.idempotency_key = o.idempotency_key
    returning e.company_id, e.feature, e.period_start, e.amount
  ),
  opened as (
    insert into secretaria.usage_openings as o (company_id, feature, period_start, amount, events)
    select d.company_id, d.feature, d.period_start, sum(d.amount), count(*)
    from deleted d
    where d.feature is not null
    group by d.company_id, d.feature, d.period_start
    order by d.company_id, d.feature, d.period_start
    on conflict (company_id, feature, period_start) do update
    set amount = o.amount + excluded.amount, events = o.events + excluded.events
  )
  select count(*)
  into done
  from deleted;
  return done;
end
$$;
comment on function secretaria_reference.trim_usage_events(interval, integer) is
  'Volatile; one at a time, locks the lines it deletes. Deletes a batch of lines recorded longer ago than that, adding
them to their openings in the same statement, and answers how many; call it until that is less than the batch. A key
that is gone no longer protects. Needs manage. 22004 nulls, 22023 a batch that is not above zero.';
