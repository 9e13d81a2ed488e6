-- What moves events: where each consumer stands, how each event ended, what waits to be published, what was parked.
set local role secretaria_owner;

create table secretaria.consumer_offsets (
  processor text not null,
  topic text not null,
  partition integer not null,
  first_offset bigint not null,
  next_offset bigint not null check (next_offset >= first_offset),
  moved_at timestamptz not null default now(),
  primary key (processor, topic, partition)
);
comment on table secretaria.consumer_offsets is
  'The truth about how far a processor has read; compare-and-set in the transaction that holds what was read.';

create table secretaria.topic_ends (
  topic text not null,
  partition integer not null,
  start_offset bigint not null,
  end_offset bigint not null,
  seen_at timestamptz not null,
  primary key (topic, partition)
);
comment on table secretaria.topic_ends is
  'What the broker said its logs hold, so that a query can compare it with what was read.';

create table secretaria.intake_counts (
  company_id bigint not null,
  processor text not null,
  topic text not null,
  partition integer not null,
  records bigint not null default 0,
  fresh bigint not null default 0,
  duplicates bigint not null default 0,
  reopened bigint not null default 0,
  primary key (company_id, processor, topic, partition)
);
comment on table secretaria.intake_counts is
  'Records read, per company: each was fresh (got a mark), a duplicate (had one), or reopened a parked one.';

create table secretaria.event_marks (
  company_id bigint not null,
  processor text not null,
  event_id uuid not null,
  topic text not null,
  partition integer not null,
  record_offset bigint not null,
  state text not null check (state in ('in_flight', 'done', 'ignored', 'parked')),
  reason text,
  taken_at timestamptz not null default now(),
  ended_at timestamptz,
  primary key (company_id, processor, event_id),
  check ((state = 'ignored') = (reason is not null))
);
comment on table secretaria.event_marks is
  'One row per processor and event: the proof that it was seen and the word on how it ended.';

create table secretaria.outbox (
  company_id bigint not null,
  outbox_id bigint generated always as identity,
  topic text not null,
  key bytea not null,
  placed_by text not null,
  spread smallint not null,
  event_id uuid not null,
  headers jsonb not null,
  payload bytea not null,
  created_at timestamptz not null default now(),
  primary key (company_id, outbox_id)
);
create index outbox_order on secretaria.outbox (outbox_id);
comment on table secretaria.outbox is
  'Records to publish. A row is deleted once the broker has acknowledged it; rows are scanned, never an id high-water
mark, because ids commit out of order.';

create table secretaria.dead_letters (
  company_id bigint not null,
  processor text not null,
  event_id uuid not null,
  state text not null default 'parked' check (state in ('parked', 'replayed', 'dropped')),
  cause text not null,
  detail text not null,
  attempts integer not null default 1,
  topic text not null,
  partition integer not null,
  record_offset bigint not null,
  key bytea,
  headers jsonb not null,
  payload bytea,
  parked_at timestamptz not null default now(),
  settled_at timestamptz,
  settled_by text,
  primary key (company_id, processor, event_id)
);
create index dead_letters_waiting on secretaria.dead_letters (parked_at) where state = 'parked';
comment on table secretaria.dead_letters is
  'The shelf. Bytes and headers (values in base64) are as they were on the topic.';

create table secretaria.heartbeats (
  processor text not null,
  instance text not null,
  beat_at timestamptz not null,
  primary key (processor, instance)
);

reset role;
