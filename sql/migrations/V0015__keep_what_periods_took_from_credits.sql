-- What a period took from credits is part of its limit, and of no other period's: so it is written down for each.
set local role secretaria_owner;

create table secretaria.usage_grant_takings (
  company_id bigint not null,
  grant_id uuid not null,
  period_start timestamptz not null,
  amount bigint not null check (amount >= 0),
  primary key (company_id, grant_id, period_start),
  foreign key (company_id, grant_id) references secretaria.usage_grants
);
comment on table secretaria.usage_grant_takings is
  'How much each period of the grant''s feature took from it; together what the grant has consumed.';

alter table secretaria.usage_grant_takings enable row level security;
alter table secretaria.usage_grant_takings force row level security;
create policy owner_all on secretaria.usage_grant_takings to secretaria_owner using (true);
create policy quota_all on secretaria.usage_grant_takings to secretaria_quota using (true);
create policy everybody_reads on secretaria.usage_grant_takings for select
to secretaria_service, secretaria_operator
using (true);
create policy company_reads_own on secretaria.usage_grant_takings for select
to secretaria_api
using (company_id = (select secretaria.session_company()));
grant select
on secretaria.usage_grant_takings
to secretaria_service, secretaria_operator;
grant select, insert, update, delete
on secretaria.usage_grant_takings
to secretaria_quota;

-- Nobody wrote down until now which period took how much: it counts for the one that runs.
insert into secretaria.usage_grant_takings (company_id, grant_id, period_start, amount)
select g.company_id, g.grant_id, u.period_start, g.consumed
from secretaria.usage_grants g
join secretaria.feature_usage u
  on u.company_id = g.company_id
  and u.feature = g.feature
  and u.slot = 0
where g.consumed > 0;

-- It has another argument from here on; `secretaria migrate` makes it anew.
drop function if exists secretaria_reference._restore_credits(bigint, text, bigint, bigint, timestamptz);

reset role;
