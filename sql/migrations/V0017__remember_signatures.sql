-- A captured webhook can be sent again under other idempotency keys while its timestamp is accepted: an event per key.
-- The signature of what was taken in is remembered for that long, so that further events of it are ignored.
set local role secretaria_owner;

create table secretaria.seen_signatures (
  company_id bigint not null,
  processor text not null,
  mac bytea not null check (octet_length(mac) = 32),
  event_id uuid not null,
  topic text not null,
  partition integer not null,
  received_at timestamptz not null,
  primary key (company_id, processor, mac)
);
create index seen_signatures_age on secretaria.seen_signatures (processor, topic, partition, received_at);
comment on table secretaria.seen_signatures is
  'The event that each verified signature was first taken in as, kept until no record read later can carry it again.';

alter table secretaria.seen_signatures enable row level security;
alter table secretaria.seen_signatures force row level security;
create policy owner_all on secretaria.seen_signatures to secretaria_owner using (true);
create policy service_all on secretaria.seen_signatures to secretaria_service using (true) with check (true);
create policy operator_reads on secretaria.seen_signatures for select to secretaria_operator using (true);
create policy company_reads_own on secretaria.seen_signatures for select to secretaria_api
using (company_id = (select secretaria.session_company()));

grant select, insert, update, delete
on secretaria.seen_signatures
to secretaria_service;
grant select
on secretaria.seen_signatures
to secretaria_operator;

reset role;
