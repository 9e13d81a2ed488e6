-- Each partition of the ledger gets its parent's policies, since a query that names a partition is checked against the
-- partition alone; and which thresholds were announced is written down, so that a lowered limit announces them once.
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

create table secretaria.usage_alerts (
  company_id bigint not null,
  feature text not null,
  period_start timestamptz not null,
  threshold smallint not null check (threshold in (80, 100)),
  limit_value bigint not null check (limit_value >= 0),
  announced_at timestamptz not null default now(),
  primary key (company_id, feature, period_start, threshold)
);
comment on table secretaria.usage_alerts is
  'The thresholds that were announced in a period, and the greatest limit each was announced for.';

alter table secretaria.usage_alerts enable row level security;
alter table secretaria.usage_alerts force row level security;
create policy owner_all on secretaria.usage_alerts to secretaria_owner using (true);
create policy quota_all on secretaria.usage_alerts to secretaria_quota using (true);
create policy everybody_reads on secretaria.usage_alerts for select
to secretaria_service, secretaria_operator
using (true);
create policy company_reads_own on secretaria.usage_alerts for select
to secretaria_api
using (company_id = (select secretaria.session_company()));
grant select
on secretaria.usage_alerts
to secretaria_service, secretaria_operator;
grant select, insert, update, delete
on secretaria.usage_alerts
to secretaria_quota;

-- What a counter stands above today was announced, or went by in silence: neither is announced now.
insert into secretaria.usage_alerts (company_id, feature, period_start, threshold, limit_value)
select u.company_id, u.feature, u.period_start, t.threshold, u.limit_value
from secretaria.feature_usage u
cross join unnest(array[80, 100]::smallint[]) as t (threshold)
where u.slot = 0
  and u.limit_value >= 0
  and u.fired_threshold >= t.threshold;

reset role;
