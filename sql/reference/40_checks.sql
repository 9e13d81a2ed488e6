-- Questions about rights: they write nothing, and one read answers them as long as the stored row still holds.

create or replace function secretaria_reference._check(
  p_company bigint,
  p_feature text,
  p_required bigint,
  p_at timestamptz,
  out allowed boolean,
  out reason text,
  out feature_kind text,
  out limit_value bigint,
  out used bigint,
  out reserved bigint,
  out remaining bigint,
  out overage bigint,
  out soft_limit boolean,
  out period_start timestamptz,
  out period_end timestamptz,
  out source text,
  out checked_at timestamptz,
  out value jsonb
)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
declare
  valid_until timestamptz;
  counted_from timestamptz;
begin
  checked_at := coalesce(p_at, secretaria_reference._now());
  -- The first slot decides; the others hold shares of its limit.
  select u.allowed, u.reason, u.kind, sum(u.limit_value) over (), sum(u.used) over (), sum(u.reserved) over (), u.soft,
    u.period_start, u.period_end, u.source, u.valid_until, u.value
  into allowed, reason, feature_kind, limit_value, used, reserved, soft_limit,
    period_start, period_end, source, valid_until, value
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
  order by u.slot
  limit 1;
  if not found or checked_at >= valid_until or checked_at < period_start or checked_at >= period_end then
    -- Time has passed the row by, or there is none: the sources are asked.
    counted_from := period_start;
    select r.allowed, r.reason, r.kind, r.limit_value, r.soft, r.period_start, r.period_end, r.source, r.value
    into allowed, reason, feature_kind, limit_value, soft_limit, period_start, period_end, source, value
    from secretaria_reference._resolve(p_company, checked_at) r
    where r.feature = p_feature;
    if not found then
      allowed := false;
      reason := 'feature_not_found';
      soft_limit := false;
      source := 'catalogue';
      used := null;
      reserved := null;
      return;
    end if;
    used := secretaria_reference._used_in(p_company, p_feature, period_start);
    reserved := case when period_start = counted_from then reserved else 0 end;
  end if;
  if feature_kind <> 'metered' then
    used := null;
    reserved := null;
    limit_value := null;
  elsif not allowed then
    remaining := 0;
    overage := 0;
  elsif limit_value is null then
    overage := 0;
  else
    remaining := greatest(limit_value - used - reserved, 0);
    overage := greatest(used - limit_value, 0);
    if p_required > remaining then
      allowed := soft_limit;
      reason := case when soft_limit then 'soft_limit_exceeded' else 'usage_limit_reached' end;
    end if;
  end if;
end
$$;
comment on function secretaria_reference._check(bigint, text, bigint, timestamptz) is
  'Stable; no locks. What check_feature_access answers once its caller is authorised, and what a static feature says.';

create or replace function secretaria_reference.check_feature_access(
  company_id bigint,
  feature text,
  required bigint default 1,
  at timestamptz default null,
  out allowed boolean,
  out reason text,
  out feature_kind text,
  out limit_value bigint,
  out used bigint,
  out reserved bigint,
  out remaining bigint,
  out overage bigint,
  out soft_limit boolean,
  out period_start timestamptz,
  out period_end timestamptz,
  out source text,
  out checked_at timestamptz
)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  answer record;
begin
  if company_id is null or feature is null or required is null then
    raise exception 'company_id, feature and required must be given' using errcode = 'null_value_not_allowed';
  end if;
  if required < 0 then
    raise exception 'required is negative: %', required using errcode = 'invalid_parameter_value';
  end if;
  if not secretaria_reference._may(company_id, 'read') then
    perform secretaria_reference._authorise(company_id, 'read');
  end if;
  -- Assigned one by one: a query that spreads the answer out would cost as much again as the answer.
  answer := secretaria_reference._check(company_id, feature, required, at);
  allowed := answer.allowed;
  reason := answer.reason;
  feature_kind := answer.feature_kind;
  limit_value := answer.limit_value;
  used := answer.used;
  reserved := answer.reserved;
  remaining := answer.remaining;
  overage := answer.overage;
  soft_limit := answer.soft_limit;
  period_start := answer.period_start;
  period_end := answer.period_end;
  source := answer.source;
  checked_at := answer.checked_at;
end
$$;
comment on function secretaria_reference.check_feature_access(bigint, text, bigint, timestamptz) is
  'Stable; no locks; always one row. Whether a company may use a feature now (or then), so much of it, and why not:
feature_not_found, feature_disabled, no_subscription, trial_expired, subscription_inactive, feature_unavailable,
usage_limit_reached; soft_limit_exceeded is allowed. remaining is null without a limit; a counted feature that is not
allowed has none remaining. 22004 for nulls, 22023 for a negative amount, 42501 for another company.';

create or replace function secretaria_reference.has_feature(company_id bigint, feature text)
returns boolean
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if company_id is null or feature is null then
    raise exception 'company_id and feature must be given' using errcode = 'null_value_not_allowed';
  end if;
  -- Policies ask for rows in any order, so another company's is no error.
  return secretaria_reference._may(company_id, 'read')
    and (secretaria_reference._check(company_id, feature, 1, null)).allowed;
end
$$;
comment on function secretaria_reference.has_feature(bigint, text) is
  'Stable; no locks. Whether at least one unit of a feature may be used now; false for another company''s, so that
row-level policies can ask it. 22004 for nulls.';

create or replace function secretaria_reference.check_feature_access_many(company_id bigint, features text[])
returns table (
  feature text,
  allowed boolean,
  reason text,
  feature_kind text,
  limit_value bigint,
  used bigint,
  reserved bigint,
  remaining bigint,
  overage bigint,
  soft_limit boolean,
  period_start timestamptz,
  period_end timestamptz,
  source text,
  checked_at timestamptz
)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if company_id is null or features is null or array_position(features, null) is not null then
    raise exception 'company_id and every feature must be given' using errcode = 'null_value_not_allowed';
  end if;
  perform secretaria_reference._authorise(company_id, 'read');
  return query
  select f.feature, c.allowed, c.reason, c.feature_kind, c.limit_value, c.used, c.reserved, c.remaining, c.overage,
    c.soft_limit, c.period_start, c.period_end, c.source, c.checked_at
  from unnest(features) with ordinality as f (feature, place)
  cross join lateral secretaria_reference._check(check_feature_access_many.company_id, f.feature, 1, null) c
  order by f.place;
end
$$;
comment on function secretaria_reference.check_feature_access_many(bigint, text[]) is
  'Stable; no locks. The answers of check_feature_access for one unit each, in the order asked.
22004 for nulls, also within the array; 42501 for another company.';

create or replace function secretaria_reference.entitlements(company_id bigint)
returns table (
  feature text,
  allowed boolean,
  reason text,
  feature_kind text,
  limit_value bigint,
  used bigint,
  reserved bigint,
  remaining bigint,
  overage bigint,
  soft_limit boolean,
  period_start timestamptz,
  period_end timestamptz,
  source text,
  checked_at timestamptz
)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform secretaria_reference._authorise(company_id, 'read');
  return query
  select f.feature, c.allowed, c.reason, c.feature_kind, c.limit_value, c.used, c.reserved, c.remaining, c.overage,
    c.soft_limit, c.period_start, c.period_end, c.source, c.checked_at
  from secretaria.features_catalog f
  cross join lateral secretaria_reference._check(entitlements.company_id, f.feature, 1, null) c
  where f.status <> 'archived'
  order by f.feature;
end
$$;
comment on function secretaria_reference.entitlements(bigint) is
  'Stable; no locks. The answers of check_feature_access for one unit of every feature of the catalogue, by name.
22004 for null, 42501 for another company.';

create or replace function secretaria_reference.get_static_entitlement(company_id bigint, feature text)
returns jsonb
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  answer record;
begin
  if company_id is null or feature is null then
    raise exception 'company_id and feature must be given' using errcode = 'null_value_not_allowed';
  end if;
  perform secretaria_reference._authorise(company_id, 'read');
  answer := secretaria_reference._check(company_id, feature, 1, null);
  return case when answer.allowed and answer.feature_kind = 'static' then answer.value end;
end
$$;
comment on function secretaria_reference.get_static_entitlement(bigint, text) is
  'Stable; no locks. What a static feature says for the company; null where it is not allowed or not static.
22004 for nulls, 42501 for another company.';

create or replace function secretaria_reference.require_feature()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  written jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
  answer record;
begin
  if tg_level <> 'ROW' or tg_when <> 'BEFORE' or tg_nargs <> 2 or not written ? tg_argv[1] then
    raise exception 'require_feature is for each row, before, with a feature and the name of the column of the company'
      using errcode = 'invalid_parameter_value';
  end if;
  answer := secretaria_reference.check_feature_access((written ->> tg_argv[1])::bigint, tg_argv[0]);
  if not answer.allowed then
    raise exception 'feature % is not allowed: %', tg_argv[0], answer.reason
      using errcode = 'insufficient_privilege', table = tg_table_name, schema = tg_table_schema;
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function secretaria_reference.require_feature() is
  'Volatile; no locks. Lets a row through only while its company may use a feature; 42501 with the reason otherwise.
create trigger … before insert on reports for each row
execute function require_feature(''analytics_export'', ''company_id'')';

do $$
declare
  asked text;
begin
  foreach asked in array array[
    'check_feature_access(bigint, text, bigint, timestamptz)', 'has_feature(bigint, text)',
    'check_feature_access_many(bigint, text[])', 'entitlements(bigint)', 'get_static_entitlement(bigint, text)',
    'require_feature()'
  ]
  loop
    execute format('alter function secretaria_reference.%s owner to secretaria_quota', asked);
    execute format('grant execute on function secretaria_reference.%s to public', asked);
  end loop;
end
$$;

alter function secretaria_reference._check(bigint, text, bigint, timestamptz) owner to secretaria_quota;
revoke all
on function secretaria_reference._check(bigint, text, bigint, timestamptz)
from public;
