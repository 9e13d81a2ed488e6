-- Everything else is owned by a role that cannot log in, and lives in one schema that is found without a prefix.
-- Roles belong to the whole cluster, so each is created only where it is missing.
do $$
declare
  wanted text;
begin
  foreach wanted in array array['secretaria_owner', 'secretaria_analyst']
  loop
    if not exists (select from pg_roles where rolname = wanted) then
      execute format('create role %I nologin', wanted);
    end if;
  end loop;
  foreach wanted in array array['secretaria_service', 'secretaria_api', 'secretaria_operator']
  loop
    if not exists (select from pg_roles where rolname = wanted) then
      execute format('create role %I login', wanted);
    end if;
  end loop;
exception
  when duplicate_object or unique_violation then null; -- Two databases of one cluster are being migrated at once.
end
$$;

create schema if not exists secretaria authorization secretaria_owner;

grant usage
on schema secretaria
to secretaria_service, secretaria_api, secretaria_operator, secretaria_analyst;

do $$
begin
  execute format('alter database %I set search_path = secretaria, secretaria_reference, public', current_database());
end
$$;
