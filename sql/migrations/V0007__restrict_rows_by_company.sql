-- Row-level security from the first table on: services see every company, the API only the one it named.
set local role secretaria_owner;

create function secretaria.session_company()
returns bigint
language sql
stable
parallel safe
as $$
  select nullif(current_setting('app.company_id', true), '')::bigint
$$;
comment on function secretaria.session_company() is
  'Stable; no locks. The company this transaction speaks for (set local app.company_id), or null. 22P02 if malformed.';

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array[
    'companies', 'channels', 'intake_counts', 'event_marks', 'outbox', 'dead_letters', 'contacts', 'contact_aliases',
    'conversations', 'turns', 'messages', 'deliveries', 'delivery_attempts', 'usage_events', 'usage_totals'
  ]
  loop
    execute format('alter table secretaria.%I enable row level security', tenant_table);
    execute format('alter table secretaria.%I force row level security', tenant_table);
    execute format(
      'create policy owner_all on secretaria.%I to secretaria_owner using (true)', tenant_table);
    execute format(
      'create policy service_all on secretaria.%I to secretaria_service using (true) with check (true)', tenant_table);
    execute format(
      'create policy operator_reads on secretaria.%I for select to secretaria_operator using (true)', tenant_table);
    execute format(
      'create policy company_reads_own on secretaria.%I for select to secretaria_api
       using (company_id = (select secretaria.session_company()))', tenant_table);
  end loop;
end
$$;

grant select, insert, update, delete
on all tables in schema secretaria
to secretaria_service;

grant select
on all tables in schema secretaria
to secretaria_operator;

grant select
on secretaria.contacts, secretaria.conversations, secretaria.turns, secretaria.messages, secretaria.deliveries,
  secretaria.delivery_attempts, secretaria.usage_totals
to secretaria_api;
grant select (company_id, domain, name, status, time_zone)
on secretaria.companies
to secretaria_api;

-- Companies and their channels are the operator's to change.
revoke insert, update, delete
on secretaria.companies, secretaria.channels
from secretaria_service;

grant insert, update, delete
on secretaria.companies, secretaria.channels
to secretaria_operator;

create policy operator_writes on secretaria.companies to secretaria_operator using (true) with check (true);
create policy operator_writes on secretaria.channels to secretaria_operator using (true) with check (true);

reset role;
