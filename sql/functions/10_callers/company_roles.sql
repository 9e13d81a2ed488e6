-- A company's own login to the database: it reads its rows through views of its own, and calls what every role may.

create or replace function secretaria_reference._register_company_role(p_company bigint, p_role name)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform secretaria_reference._authorise(p_company, 'manage');
  insert into secretaria.company_roles (company_id, role_name)
  values (p_company, p_role)
  on conflict (company_id) do nothing;
  if found then
    insert into secretaria.audit_logs (company_id, actor, action, subject)
    values (p_company, secretaria.outer_role(), 'company_role_created', 'role:' || p_role);
  end if;
end
$$;
comment on function secretaria_reference._register_company_role(bigint, name) is
  'Volatile; locks the company''s row in company_roles. From here on the role speaks for the company; audited once.
42501 without the power to manage, 23503 for an unknown company.';

create or replace function secretaria_reference._create_company_view(p_schema name, p_view name, p_company bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_view = 'feature_usage' then
    -- One row for each counter, however many rows it is kept in.
    execute format('create or replace view %I.feature_usage with (security_barrier) as
      select u.company_id, u.limit_value, u.ceiling,
        (
          select sum(s.used)::bigint
          from secretaria.feature_usage s
          where s.company_id = u.company_id
            and s.feature = u.feature
        ) as used,
        u.reserved, u.arming, u.period_start, u.period_end, u.valid_until, u.slot, u.fired_threshold, u.allowed,
        u.soft, u.feature, u.kind, u.reason, u.source, u.value
      from secretaria.feature_usage u
      where u.company_id = %s
        and u.slot = 0', p_schema, p_company);
  else
    execute format('create or replace view %I.%I with (security_barrier) as
      select * from secretaria.%I where company_id = %s', p_schema, p_view, p_view, p_company);
  end if;
  execute format('alter view %I.%I owner to secretaria_quota', p_schema, p_view);
  execute format('grant select on %I.%I to %I', p_schema, p_view, p_schema);
end
$$;
comment on function secretaria_reference._create_company_view(name, name, bigint) is
  'Volatile; locks the view. The rows of one company, read with the rights of secretaria_quota; the company''s number is
part of the view, so that no setting changes it. The schema and the role that reads it have one name.';

create or replace function secretaria_reference.create_company_role(company_id bigint)
returns name
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted name := format('tenant_%s', create_company_role.company_id);
  shown name;
begin
  perform secretaria_reference._authorise(create_company_role.company_id, 'manage');
  if not exists (
    select
    from pg_catalog.pg_roles r
    where r.rolname = current_user
      and (r.rolsuper or r.rolcreaterole)
  ) then
    raise exception 'role % may not make roles', current_user using errcode = 'insufficient_privilege';
  end if;
  if not exists (select from secretaria.companies c where c.company_id = create_company_role.company_id) then
    raise exception 'there is no company %', create_company_role.company_id using errcode = 'undefined_object';
  end if;
  -- Roles are the whole cluster's: one that is there is taken over only if it can do nothing else.
  begin
    execute format('create role %I login noinherit', wanted);
  exception
    when duplicate_object or unique_violation then null;
  end;
  if exists (
    select
    from pg_catalog.pg_roles r
    where r.rolname = wanted
      and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolbypassrls or r.rolreplication
        or exists (select from pg_catalog.pg_auth_members m where m.member = r.oid))
  ) then
    raise exception 'role % exists and can do more than a company may', wanted using errcode = 'duplicate_object';
  end if;
  execute format('create schema if not exists %I authorization secretaria_quota', wanted);
  execute format('grant usage on schema %I, secretaria, secretaria_reference to %I', wanted, wanted);
  execute format('alter role %I in database %I set search_path = %I, secretaria, secretaria_reference',
    wanted, current_database(), wanted);
  foreach shown in array array[
    'feature_usage', 'feature_usage_periods', 'usage_events', 'usage_reservations', 'usage_grants', 'subscriptions',
    'subscription_events', 'ai_usage_by_model', 'ai_usage_metrics', 'current_month_ai_usage'
  ]
  loop
    perform secretaria_reference._create_company_view(wanted, shown, create_company_role.company_id);
  end loop;
  perform secretaria_reference._register_company_role(create_company_role.company_id, wanted);
  return wanted;
end
$$;
comment on function secretaria_reference.create_company_role(bigint) is
  'Volatile; locks the catalogue''s rows of what it makes. The login role tenant_<id>, without a password, and the
schema of that name with views of the company''s rows; safe to repeat. Runs with the caller''s rights: a superuser, or a
manager with createrole who may create schemas here and is a member of secretaria_quota. Every role of the name speaks
for the company, so one cluster holds one installation. 42501 for any other caller, 22004 for null, 42704 for an unknown
company, 42710 for a role that can do more.';
