-- How a check is done where nothing is materialised: plan, override and usage are looked up at each call.
create or replace function bench.check_waterfall(
  p_company bigint, p_feature text,
  out allowed boolean, out reason text, out limit_value bigint, out used bigint)
language plpgsql
stable
as $$
declare
  v_status text;
  v_override bigint;
begin
  select s.status, p.limit_value
  into v_status, limit_value
  from secretaria.subscriptions s
  join secretaria.plan_features p using (plan_version_id)
  where s.company_id = p_company
    and s.ended_at is null
    and p.feature = p_feature;

  select o.limit_value
  into v_override
  from secretaria.company_overrides o
  where o.company_id = p_company
    and o.feature = p_feature
    and (o.expires_at is null or o.expires_at > statement_timestamp());
  limit_value := coalesce(v_override, limit_value);

  select u.used
  into used
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0;

  allowed := v_status in ('trialing', 'active') and coalesce(used, 0) + 1 <= limit_value;
  reason := case when allowed then 'ok' when v_status is null then 'feature_not_found' else 'usage_limit_reached' end;
end
$$;
