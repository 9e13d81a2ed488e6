-- What is left of each metered feature of company $1, as any SQL caller asks.
select feature, coalesce(remaining::text, 'no limit') as remaining, coalesce(limit_value::text, 'no limit') as limit_value
from entitlements($1)
where feature_kind = 'metered'
  and allowed;
