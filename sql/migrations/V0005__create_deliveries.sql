-- Handing messages to providers: one row per message, one per attempt.
set local role secretaria_owner;

create table secretaria.deliveries (
  company_id bigint not null references secretaria.companies,
  delivery_id uuid not null,
  conversation_id uuid not null,
  position bigint not null,
  channel text not null,
  send_to text not null,
  body text not null,
  purpose text not null check (purpose in ('reply')),
  state text not null check (state in ('waiting', 'sending', 'ended')),
  outcome text check (outcome in ('sent', 'failed_permanent')),
  due_at timestamptz not null,
  attempts integer not null default 0,
  round_began_at integer not null default 0,
  unknowns integer not null default 0,
  claimed_by text,
  lease_until timestamptz,
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  traceparent text,
  record_partition integer not null,
  record_offset bigint not null,
  record_key bytea,
  record_headers jsonb,
  record_payload bytea,
  primary key (company_id, delivery_id),
  check ((state = 'ended') = (outcome is not null)),
  check ((state = 'sending') = (lease_until is not null))
);
create index deliveries_due on secretaria.deliveries (company_id, due_at) where state = 'waiting';
create index deliveries_next on secretaria.deliveries (due_at) where state = 'waiting';
create index deliveries_leased on secretaria.deliveries (lease_until) where state = 'sending';
create index deliveries_heads on secretaria.deliveries (company_id, conversation_id, position) where state <> 'ended';
comment on column secretaria.deliveries.record_payload is
  'The record it came in, bytes and headers, kept until it is sent: what goes on the shelf if it never is.';
comment on column secretaria.deliveries.round_began_at is
  'Attempts made before the last replay: a replayed delivery gets its whole schedule again.';

create table secretaria.delivery_attempts (
  company_id bigint not null,
  delivery_id uuid not null,
  attempt integer not null,
  of_round integer not null,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  result text check (result in ('SENT', 'FAILED_TEMPORARY', 'FAILED_PERMANENT', 'UNKNOWN')),
  class text,
  primary key (company_id, delivery_id, attempt),
  foreign key (company_id, delivery_id) references secretaria.deliveries,
  check ((result is null) = (ended_at is null))
);
comment on column secretaria.delivery_attempts.of_round is
  'Counts from 1 again after a replay from the shelf.';
comment on table secretaria.delivery_attempts is
  'Written before the call (the intent) and completed after it; one left without a result becomes UNKNOWN.';

reset role;
