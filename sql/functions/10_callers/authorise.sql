-- Who is asking, and what time it is for the caller: every other function begins with these.
-- They run with the rights, and on the pinned path, of the function that calls them.

create or replace function secretaria_reference._may(p_company bigint, p_power text)
returns boolean
language plpgsql
stable
parallel safe
as $$
declare
  asking name := secretaria.outer_role();
begin
  if p_company is null then
    raise exception 'company_id is null' using errcode = 'null_value_not_allowed';
  end if;
  if p_power is null or p_power not in ('read', 'use', 'manage') then
    raise exception 'no power is called %', p_power using errcode = 'invalid_parameter_value';
  end if;
  if asking in ('secretaria_service', 'secretaria_operator', 'secretaria_owner', 'secretaria_quota') then
    return true;
  end if;
  if asking = 'secretaria_api' then
    return p_power <> 'manage' and coalesce(secretaria.session_company() = p_company, false);
  end if;
  return (p_power <> 'manage' and exists (
      select
      from secretaria.company_roles r
      where r.company_id = p_company
        and r.role_name = asking
    ))
    or exists (
      select
      from pg_catalog.pg_roles r
      where r.rolname = asking
        and r.rolsuper
    );
end
$$;
comment on function secretaria_reference._may(bigint, text) is
  'Stable; no locks. Whether the outer role has a power (read, use, manage) over a company: services, the operator and
superusers over all, the API over the one it named, a company''s role over its own, and never manage.
22004 for a null company, 22023 for another power.';

create or replace function secretaria_reference._authorise(p_company bigint, p_power text)
returns void
language plpgsql
stable
parallel safe
as $$
begin
  if not secretaria_reference._may(p_company, p_power) then
    raise exception 'role % may not % company %', secretaria.outer_role(), p_power, p_company
      using errcode = 'insufficient_privilege';
  end if;
end
$$;
comment on function secretaria_reference._authorise(bigint, text) is
  'Stable; no locks. Nothing where _may says true, 42501 where it says false, 22004 for a null company.';

create or replace function secretaria_reference._own_key(p_company bigint, p_key text)
returns text
language plpgsql
stable
parallel safe
as $$
begin
  if p_key is null or secretaria_reference._may(p_company, 'manage') then
    return p_key;
  end if;
  return 'own:' || p_key;
end
$$;
comment on function secretaria_reference._own_key(bigint, text) is
  'Stable; no locks. The key as it is stored: the keys of callers who may only use are apart, so that they cannot take
one that the processors will book under.';

create or replace function secretaria_reference._now()
returns timestamptz
language plpgsql
stable
parallel safe
as $$
declare
  set_by_test text := nullif(current_setting('secretaria.test_now', true), '');
begin
  if set_by_test is null then
    return statement_timestamp();
  end if;
  -- Any role may set such a setting, so it counts only for those who could change everything anyway.
  if not exists (
    select
    from pg_catalog.pg_roles r
    where r.rolname = secretaria.outer_role()
      and r.rolsuper
  ) then
    return statement_timestamp();
  end if;
  return set_by_test::timestamptz;
end
$$;
comment on function secretaria_reference._now() is
  'Stable; no locks. The instant of the statement, or a superuser''s secretaria.test_now; 22007 if malformed.';
