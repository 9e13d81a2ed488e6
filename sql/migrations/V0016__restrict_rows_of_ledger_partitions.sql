-- A query that names a partition is not asked the policies of its parent, so each partition of the ledger has them too.
set local role secretaria_owner;

do $$
declare
  ledger_partition regclass;
begin
  for ledger_partition in
    select i.inhrelid::regclass
    from pg_inherits i
    where i.inhparent = 'secretaria.usage_events'::regclass
    order by i.inhrelid::regclass::text
  loop
    execute format('alter table %s enable row level security', ledger_partition);
    execute format('alter table %s force row level security', ledger_partition);
    execute format('create policy owner_all on %s to secretaria_owner using (true)', ledger_partition);
    execute format(
      'create policy service_all on %s to secretaria_service using (true) with check (true)', ledger_partition);
    execute format('create policy operator_reads on %s for select to secretaria_operator using (true)', ledger_partition);
    execute format('create policy quota_all on %s to secretaria_quota using (true)', ledger_partition);
    execute format(
      'create policy company_reads_own on %s for select to secretaria_api
       using (company_id = (select secretaria.session_company()))', ledger_partition);
  end loop;
end
$$;

reset role;
