-- A processor for which one row per event would be absurd, such as an archive of files, accounts for ranges of offsets.
set local role secretaria_owner;

create table secretaria.event_ranges (
  processor text not null,
  topic text not null,
  partition integer not null,
  first_offset bigint not null,
  last_offset bigint not null check (last_offset >= first_offset),
  done bigint not null check (done >= 0),
  ignored bigint not null check (ignored >= 0),
  parked bigint not null check (parked >= 0),
  committed_at timestamptz not null default now(),
  primary key (processor, topic, partition, first_offset)
);
comment on table secretaria.event_ranges is
  'How the records of a range of offsets ended, first and last included; one row per transaction and partition.';

grant select, insert, update, delete
on secretaria.event_ranges
to secretaria_service;
grant select
on secretaria.event_ranges
to secretaria_operator;

reset role;
