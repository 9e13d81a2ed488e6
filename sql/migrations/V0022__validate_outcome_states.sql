-- The checks of V0021 hold for rows from before it too; a transaction of its own, so that reading goes on meanwhile.
set local role secretaria_owner;

alter table secretaria.event_outcomes validate constraint event_outcomes_state_check;
alter table secretaria.dead_letters validate constraint dead_letters_state_check;

reset role;
