-- What a period took from credits is part of its limit, and of no other period's: so each grant says how much that is.
set local role secretaria_owner;

alter table secretaria.usage_grants
  add column taken_in timestamptz,
  add column taken_before bigint not null default 0,
  add constraint usage_grants_taken_before_check check (taken_before between 0 and consumed);
comment on column secretaria.usage_grants.taken_in is 'The start of the period that took from it last; null: none did.';
comment on column secretaria.usage_grants.taken_before is 'How much of what is consumed earlier periods took.';

-- Nobody wrote down until now which period took how much: it stays part of the one that runs.
update secretaria.usage_grants g
set taken_in = u.period_start
from secretaria.feature_usage u
where u.company_id = g.company_id
  and u.feature = g.feature
  and u.slot = 0
  and g.consumed > 0;

reset role;
