-- Alerts leave as webhooks: where each company wants to be told, what it was told, and every attempt at that.
set local role secretaria_owner;

create table secretaria.company_webhooks (
  company_id bigint not null references secretaria.companies,
  url text not null check (length(url) between 1 and 2048),
  secret_sealed bytea not null,
  previous_secret_sealed bytea,
  previous_secret_until timestamptz,
  enabled boolean not null default true,
  updated_at timestamptz not null default now(),
  primary key (company_id),
  check ((previous_secret_sealed is null) = (previous_secret_until is null))
);
comment on table secretaria.company_webhooks is
  'A company''s own receiver. Secrets are sealed as in companies; while one is being rotated out, calls carry two
signatures.';

create table secretaria.webhook_deliveries (
  company_id bigint not null references secretaria.companies,
  event_id uuid not null,
  endpoint text not null check (endpoint in ('company', 'operator')),
  kind text not null,
  body text not null,
  state text not null check (state in ('waiting', 'calling', 'ended')),
  outcome text check (outcome in ('delivered', 'failed_permanent', 'withdrawn')),
  cause text,
  due_at timestamptz not null,
  attempts integer not null default 0,
  round_began_at integer not null default 0,
  claimed_by text,
  lease_until timestamptz,
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  record_partition integer not null,
  record_offset bigint not null,
  record_key bytea,
  record_headers jsonb,
  record_payload bytea,
  primary key (company_id, event_id, endpoint),
  check ((state = 'ended') = (outcome is not null)),
  check ((state = 'calling') = (lease_until is not null)),
  check ((outcome is not distinct from 'failed_permanent') = (cause is not null))
);
create index webhook_deliveries_due on secretaria.webhook_deliveries (company_id, due_at) where state = 'waiting';
create index webhook_deliveries_next on secretaria.webhook_deliveries (due_at) where state = 'waiting';
create index webhook_deliveries_leased on secretaria.webhook_deliveries (lease_until) where state = 'calling';
comment on table secretaria.webhook_deliveries is
  'One row per event and receiver. The event has ended when every row of it has; it is delivered at least once.';
comment on column secretaria.webhook_deliveries.body is
  'What is signed and sent, the same bytes at every attempt.';
comment on column secretaria.webhook_deliveries.record_payload is
  'The record it came in, bytes and headers, kept until it is delivered: what goes on the shelf if it never is.';
comment on column secretaria.webhook_deliveries.round_began_at is
  'Attempts made before the last replay: a replayed webhook gets its whole schedule again.';

create table secretaria.webhook_attempts (
  company_id bigint not null,
  event_id uuid not null,
  endpoint text not null,
  attempt integer not null,
  of_round integer not null,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  result text check (result in ('DELIVERED', 'FAILED_TEMPORARY', 'FAILED_PERMANENT', 'UNKNOWN', 'WITHDRAWN')),
  status smallint,
  class text,
  primary key (company_id, event_id, endpoint, attempt),
  foreign key (company_id, event_id, endpoint) references secretaria.webhook_deliveries,
  check ((result is null) = (ended_at is null))
);
comment on table secretaria.webhook_attempts is
  'Written before the call (the intent) and completed after it; one left without a result becomes UNKNOWN.';

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array['company_webhooks', 'webhook_deliveries', 'webhook_attempts']
  loop
    execute format('alter table secretaria.%I enable row level security', tenant_table);
    execute format('alter table secretaria.%I force row level security', tenant_table);
    execute format('create policy owner_all on secretaria.%I to secretaria_owner using (true)', tenant_table);
    execute format(
      'create policy service_all on secretaria.%I to secretaria_service using (true) with check (true)', tenant_table);
    execute format(
      'create policy operator_reads on secretaria.%I for select to secretaria_operator using (true)', tenant_table);
    execute format(
      'create policy company_reads_own on secretaria.%I for select to secretaria_api
       using (company_id = (select secretaria.session_company()))', tenant_table);
    execute format('grant select on secretaria.%I to secretaria_service, secretaria_operator', tenant_table);
  end loop;
end
$$;

grant insert, update, delete
on secretaria.webhook_deliveries, secretaria.webhook_attempts
to secretaria_service;

-- Where a company wants to be told is the operator's to change, as its channels are.
create policy operator_writes on secretaria.company_webhooks to secretaria_operator using (true) with check (true);
grant insert, update, delete
on secretaria.company_webhooks
to secretaria_operator;

reset role;
