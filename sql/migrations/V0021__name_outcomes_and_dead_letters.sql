-- Names that a newcomer knows: events have outcomes, and one that cannot be handled is dead-lettered; consumers count records.
set local role secretaria_owner;
-- The locks wait for open readers, and everything else waits behind them.
set local lock_timeout = '30s';

alter table secretaria.event_marks rename to event_outcomes;
alter table secretaria.event_outcomes rename column taken_at to admitted_at;
alter table secretaria.event_outcomes rename constraint event_marks_pkey to event_outcomes_pkey;
alter table secretaria.event_outcomes rename constraint event_marks_check to event_outcomes_check;
alter table secretaria.event_outcomes drop constraint event_marks_state_check;
update secretaria.event_outcomes
set state = 'dead_lettered'
where state = 'parked';
alter table secretaria.event_outcomes
add constraint event_outcomes_state_check check (state in ('in_flight', 'done', 'ignored', 'dead_lettered')) not valid;
comment on table secretaria.event_outcomes is
  'One row per processor and event: it was admitted, and how its handling ended.';

alter table secretaria.intake_counts rename to consumer_counts;
alter table secretaria.consumer_counts rename column fresh to admitted;
alter table secretaria.consumer_counts rename column reopened to replayed;
alter table secretaria.consumer_counts rename constraint intake_counts_pkey to consumer_counts_pkey;
comment on table secretaria.consumer_counts is
  'Records read, per company: each was admitted (a new event), a duplicate, or the replay of a dead letter.';

alter table secretaria.event_ranges rename column parked to dead_lettered;
alter table secretaria.event_ranges rename constraint event_ranges_parked_check to event_ranges_dead_lettered_check;

alter table secretaria.dead_letters rename column parked_at to dead_lettered_at;
alter table secretaria.dead_letters drop constraint dead_letters_state_check;
drop index secretaria.dead_letters_waiting;
alter table secretaria.dead_letters alter column state set default 'waiting';
update secretaria.dead_letters
set state = 'waiting'
where state = 'parked';
alter table secretaria.dead_letters
add constraint dead_letters_state_check check (state in ('waiting', 'replayed', 'dropped')) not valid;
create index dead_letters_waiting on secretaria.dead_letters (dead_lettered_at) where state = 'waiting';
-- Every claim takes a number from here. A worker of an earlier release that still runs, or starts again, must fail before
-- it makes a call whose result it could not store.
alter sequence secretaria.job_fences rename to lease_fences;

comment on table secretaria.dead_letters is
  'Events that could not be handled. Bytes and headers (values in base64) are as they were on the topic.';

reset role;
