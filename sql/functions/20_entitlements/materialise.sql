-- Rights are resolved at each edit and stored, so that a check is one read; no two edits overwrite each other.

create or replace function secretaria_reference._held_in(p_company bigint, p_feature text, p_period timestamptz)
returns bigint
language sql
stable
as $$
  select coalesce(sum(r.amount), 0)::bigint
  from secretaria.usage_reservations r
  where r.company_id = p_company
    and r.feature = p_feature
    and r.period_start = p_period
    and r.state = 'held'
$$;
comment on function secretaria_reference._held_in(bigint, text, timestamptz) is
  'Stable; no locks. What reservations hold of a period: a period that comes back has them again.';

create or replace function secretaria_reference._store(p_company bigint, p_at timestamptz)
returns void
language plpgsql
volatile
as $$
begin
  with resolved as materialized (
    select *
    from secretaria_reference._resolve(p_company, p_at)
  ),
  closed as (
    -- What was never counted in no period at all is not worth a line.
    insert into secretaria.feature_usage_periods as c
      (company_id, feature, period_start, period_end, limit_value, used, closed_at)
    select u.company_id, u.feature, u.period_start, u.period_end, u.limit_value, u.used, p_at
    from secretaria.feature_usage u
    join resolved r
      on r.feature = u.feature
    where u.company_id = p_company
      and u.slot = 0
      and u.period_start <> r.period_start
      and (u.used > 0 or isfinite(u.period_start))
    order by u.feature
    on conflict (company_id, feature, period_start) do update
    set used = c.used + excluded.used, limit_value = excluded.limit_value, period_end = excluded.period_end,
      closed_at = excluded.closed_at
  ),
  reopened as (
    -- A period can come back, with a subscription of the same anchor: then it goes on from what it had.
    delete from secretaria.feature_usage_periods c
    using resolved r
    where c.company_id = p_company
      and c.feature = r.feature
      and c.period_start = r.period_start
      and not exists (
        select
        from secretaria.feature_usage u
        where u.company_id = p_company
          and u.feature = r.feature
          and u.slot = 0
          and u.period_start = r.period_start
      )
    returning c.feature, c.used
  )
  insert into secretaria.feature_usage as u
    (company_id, feature, kind, allowed, soft, limit_value, ceiling, used, reserved, fired_threshold, period_start,
      period_end, valid_until, reason, source, value)
  select
    p_company, r.feature, r.kind, r.allowed, r.soft, r.limit_value,
    case when not r.soft and r.limit_value is not null then greatest(r.limit_value, coalesce(o.used, 0) + h.amount) end,
    coalesce(o.used, 0), h.amount, secretaria_reference._threshold_reached(coalesce(o.used, 0), r.limit_value),
    r.period_start, r.period_end, r.valid_until, r.reason, r.source, r.value
  from resolved r
  left join reopened o
    on o.feature = r.feature
  -- What is held belongs to the period it was held in, and is looked up where that begins or comes back: the row of the
  -- running one knows.
  cross join lateral (
    select case
      when r.kind = 'metered' and not exists (
        select
        from secretaria.feature_usage n
        where n.company_id = p_company
          and n.feature = r.feature
          and n.slot = 0
          and n.period_start = r.period_start
      ) then secretaria_reference._held_in(p_company, r.feature, r.period_start)
      else 0
    end as amount
  ) h
  order by r.feature
  on conflict (company_id, feature, slot) do update
  set kind = excluded.kind, allowed = excluded.allowed, soft = excluded.soft, limit_value = excluded.limit_value,
    period_start = excluded.period_start, period_end = excluded.period_end, valid_until = excluded.valid_until,
    reason = excluded.reason, source = excluded.source, value = excluded.value,
    used = case when u.period_start = excluded.period_start then u.used else excluded.used end,
    reserved = case when u.period_start = excluded.period_start then u.reserved else excluded.reserved end,
    ceiling = case
      when excluded.ceiling is null then null
      when u.period_start = excluded.period_start then greatest(excluded.limit_value, u.used + u.reserved)
      else excluded.ceiling
    end,
    arming = u.arming + case when u.period_start <> excluded.period_start
      or u.limit_value is distinct from excluded.limit_value then 1 else 0 end,
    -- Thresholds below the use count as announced under the new limit: _store_and_announce tells which are new.
    fired_threshold = case
      when u.period_start <> excluded.period_start then excluded.fired_threshold
      when u.limit_value is distinct from excluded.limit_value
        then secretaria_reference._threshold_reached(u.used, excluded.limit_value)
      else u.fired_threshold
    end
  where (u.kind, u.allowed, u.soft, u.limit_value, u.period_start, u.period_end, u.valid_until, u.reason, u.source,
      u.value) is distinct from
    (excluded.kind, excluded.allowed, excluded.soft, excluded.limit_value, excluded.period_start, excluded.period_end,
      excluded.valid_until, excluded.reason, excluded.source, excluded.value);
end
$$;
comment on function secretaria_reference._store(bigint, timestamptz) is
  'Volatile; for _materialise, which holds the locks. Closes and reopens periods, keeps what is counted.';

create or replace function secretaria_reference._materialise(p_company bigint, p_at timestamptz default null)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := coalesce(p_at, secretaria_reference._now());
begin
  -- One edit of a company after another: the second resolves in a statement that sees the first. Edits of the
  -- catalogue lock this table, so that they wait for those of companies, and those for them.
  insert into secretaria.entitlement_epochs as e (company_id, epoch)
  values (p_company, 1)
  on conflict (company_id) do update
  set epoch = e.epoch + 1;
  perform
  from secretaria.feature_usage u
  where u.company_id = p_company
  order by u.feature, u.slot
  for update;
  perform secretaria_reference._remove_shards(p_company);
  -- A caller that had to wait asks for an instant before the rows: use theirs. A clock that was moved is believed.
  if secretaria_reference._now() = statement_timestamp() then
    at := greatest(at, (
      select least(max(u.period_start), clock_timestamp())
      from secretaria.feature_usage u
      where u.company_id = p_company
        and isfinite(u.period_start)
    ));
  end if;
  perform secretaria_reference._store_and_announce(p_company, at);
  delete from secretaria.feature_usage u
  using secretaria.features_catalog c
  where u.company_id = p_company
    and c.feature = u.feature
    and c.status = 'archived'
    and u.used = 0
    and u.reserved = 0;
  -- What was counted is kept, and nothing more is allowed.
  update secretaria.feature_usage u
  set allowed = false, soft = false, limit_value = null, ceiling = null, valid_until = 'infinity',
    reason = 'feature_not_found', source = 'catalogue', value = null
  from secretaria.features_catalog c
  where u.company_id = p_company
    and c.feature = u.feature
    and c.status = 'archived'
    and u.reason <> 'feature_not_found';
end
$$;
comment on function secretaria_reference._materialise(bigint, timestamptz) is
  'Volatile. Stores what resolving says now, and removes shards. Locks, in this order: the company''s epoch, its rows by
feature. 40001 where another edit came first at REPEATABLE READ; 40P01 is as retryable.';

create or replace function secretaria_reference._company_edited()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  edited bigint[];
  one bigint;
begin
  if tg_op = 'INSERT' then
    edited := array(select n.company_id from new_rows n);
  elsif tg_op = 'DELETE' then
    edited := array(select o.company_id from old_rows o);
  else
    edited := array(select n.company_id from new_rows n union select o.company_id from old_rows o);
  end if;
  for one in
    select distinct e.company_id
    from unnest(edited) as e (company_id)
    order by e.company_id
  loop
    perform secretaria_reference._materialise(one);
  end loop;
  return null;
end
$$;
comment on function secretaria_reference._company_edited() is
  'Volatile; materialises the companies of the statement''s rows, in order, with the locks of that.';

create or replace function secretaria_reference._grant_edited()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform secretaria_reference._materialise(case when tg_op = 'DELETE' then old.company_id else new.company_id end);
  return null;
end
$$;
comment on function secretaria_reference._grant_edited() is
  'Volatile; materialises the company of the row. Taking credits from a grant is no edit: limit and use move together.';

create or replace function secretaria_reference._catalogue_edited()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  versions bigint[];
  one bigint;
begin
  -- A snapshot from before the lock would miss the companies that were edited while it was waited for.
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'the catalogue is edited at READ COMMITTED' using errcode = 'feature_not_supported';
  end if;
  -- A table's lock and no advisory one, which any login could take, and so hold up every edit.
  lock table secretaria.entitlement_epochs in share row exclusive mode;
  if tg_table_name = 'plan_features' then
    if tg_op = 'INSERT' then
      versions := array(select n.plan_version_id from new_rows n);
    elsif tg_op = 'DELETE' then
      versions := array(select o.plan_version_id from old_rows o);
    else
      versions := array(select n.plan_version_id from new_rows n union select o.plan_version_id from old_rows o);
    end if;
  end if;
  for one in
    select e.company_id
    from secretaria.entitlement_epochs e
    where versions is null
      or exists (
        select
        from secretaria.subscriptions s
        where s.company_id = e.company_id
          and s.ended_at is null
          and (s.plan_version_id = any (versions) or s.next_plan_version_id = any (versions))
      )
    order by e.company_id
  loop
    perform secretaria_reference._materialise(one);
  end loop;
  return null;
end
$$;
comment on function secretaria_reference._catalogue_edited() is
  'Volatile; materialises every company that the edit may concern, in order, while no company is edited.
0A000 at REPEATABLE READ and above. What time it takes grows with the number of companies.';

do $$
declare
  edited text;
begin
  foreach edited in array array['subscriptions', 'company_overrides', 'feature_flags', 'plan_features']
  loop
    execute format(
      'create or replace trigger materialise_inserted after insert on secretaria.%I
       referencing new table as new_rows for each statement execute function secretaria_reference.%I()',
      edited, case edited when 'plan_features' then '_catalogue_edited' else '_company_edited' end);
    execute format(
      'create or replace trigger materialise_updated after update on secretaria.%I
       referencing old table as old_rows new table as new_rows
       for each statement execute function secretaria_reference.%I()',
      edited, case edited when 'plan_features' then '_catalogue_edited' else '_company_edited' end);
    execute format(
      'create or replace trigger materialise_deleted after delete on secretaria.%I
       referencing old table as old_rows for each statement execute function secretaria_reference.%I()',
      edited, case edited when 'plan_features' then '_catalogue_edited' else '_company_edited' end);
  end loop;
end
$$;

create or replace trigger materialise_inserted
after insert
on secretaria.companies
referencing new table as new_rows
for each statement
execute function secretaria_reference._company_edited();

create or replace trigger materialise_edited
after insert or delete or update of company_id, feature, amount, effective_at, expires_at, voided_at
on secretaria.usage_grants
for each row
execute function secretaria_reference._grant_edited();

create or replace trigger materialise_edited
after insert or delete or update of kind, reset, always_on, status
on secretaria.features_catalog
for each statement
execute function secretaria_reference._catalogue_edited();

create or replace trigger materialise_edited
after insert or delete or update
on secretaria.subscription_policies
for each statement
execute function secretaria_reference._catalogue_edited();

create or replace function secretaria_reference._verify_entitlements(p_company bigint)
returns table (company_id bigint, feature text, field text, stored text, resolved text)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
begin
  perform secretaria_reference._authorise(
    coalesce(p_company, 0), case when p_company is null then 'manage' else 'read' end);
  return query
  select e.company_id, w.feature, w.field, w.stored, w.resolved
  from secretaria.entitlement_epochs e
  cross join lateral (
    select coalesce(u.feature, r.feature) as feature, f.field, f.stored, f.resolved
    from (
      select *
      from secretaria.feature_usage n
      where n.company_id = e.company_id
        and n.slot = 0
    ) u
    full join secretaria_reference._resolve(e.company_id, at) r
      on r.feature = u.feature
    cross join lateral (
      values
        ('kind', u.kind, r.kind),
        ('allowed', u.allowed::text, r.allowed::text),
        ('soft', u.soft::text, r.soft::text),
        ('limit_value', u.limit_value::text, r.limit_value::text),
        ('period_start', u.period_start::text, r.period_start::text),
        ('period_end', u.period_end::text, r.period_end::text),
        ('valid_until', u.valid_until::text, r.valid_until::text),
        ('reason', u.reason, r.reason),
        ('source', u.source, r.source),
        ('value', u.value::text, r.value::text),
        ('ceiling', (u.ceiling is null)::text, (r.soft or r.limit_value is null)::text)
    ) as f (field, stored, resolved)
    -- A row that is out of date is not believed: checks resolve again.
    where coalesce(at < u.valid_until and at >= u.period_start and at < u.period_end, true)
      and (r.feature is not null or u.reason <> 'feature_not_found')
      and f.stored is distinct from f.resolved
  ) w
  where p_company is null
    or e.company_id = p_company
  order by e.company_id, w.feature, w.field;
end
$$;
comment on function secretaria_reference._verify_entitlements(bigint) is
  'Stable; no locks. The work of verify_entitlements, whose parameter and first column have one name, as SQL allows.';

create or replace function secretaria_reference.verify_entitlements(company_id bigint default null)
returns table (company_id bigint, feature text, field text, stored text, resolved text)
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
  select *
  from secretaria_reference._verify_entitlements($1)
$$;
comment on function secretaria_reference.verify_entitlements(bigint) is
  'Stable; no locks. Where a stored right differs from what its sources say now, field by field; all companies for null.
Nothing is as it should be. 42501 for another company, and for all without the power over all.';
