-- A counter that many write at once lends parts of its limit to further rows, so that they do not wait for one another.
set local role secretaria_owner;

alter table secretaria.feature_usage
  add column lent bigint default 0 check (lent >= 0),
  add column slots smallint not null default 0 check (slots between 0 and 64),
  drop constraint feature_usage_check,
  add constraint feature_usage_check check (used + coalesce(lent, 0) <= ceiling - reserved);
comment on column secretaria.feature_usage.slots is 'On slot 0: how many further rows there are, numbered from 1.';
comment on column secretaria.feature_usage.lent is
  'On slot 0: how much of its room the further rows may use without asking, what they have used of it included. Null: as
much as they like, since there is no limit and no threshold ahead.';
comment on column secretaria.feature_usage.used is
  'What this row counted. A counter is the sum of its slots: entitlements() and check_feature_access() say it.';
comment on column secretaria.feature_usage.slot is
  '0 carries the decision. Further rows count for it: their limit_value is what was lent to them, their used what they
used of it since.';

-- Functions that have other arguments or answers from here on; `secretaria migrate` makes them anew.
drop function if exists secretaria_reference._prepare_bulk(bigint[], text[], timestamptz, boolean);
drop function if exists secretaria_reference._count_bulk(bigint[], text[], timestamptz[], bigint[], timestamptz);
drop function if exists secretaria_reference._answers_counted(
  bigint[], text[], bigint[], text[], text[], text[], integer[], timestamptz[]);

reset role;
