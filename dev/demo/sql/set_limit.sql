-- Limits feature $2 of company $1 so that using $3 more makes $4 percent of it; says what is used then, and the limit.
with used as (
  select coalesce((select used from check_feature_access($1, $2)), 0) + $3 as used
)
insert into company_overrides (company_id, feature, limit_value, reason)
select $1, $2, used * 100 / $4, 'demo'
from used
on conflict (company_id, feature) do update set limit_value = excluded.limit_value
returning (select used from used) as used, limit_value;
