-- Questions about several features at once, what a static one says, and a trigger that asks.

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
