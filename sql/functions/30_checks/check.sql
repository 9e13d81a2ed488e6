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
  -- The first row decides; what its shards have used counts.
  select u.allowed, u.reason, u.kind, u.limit_value,
    u.used + case when u.slots = 0 then 0 else secretaria_reference._used_in_shards(p_company, p_feature) end,
    u.reserved, u.soft,
    u.period_start, u.period_end, u.source, u.valid_until, u.value
  into allowed, reason, feature_kind, limit_value, used, reserved, soft_limit,
    period_start, period_end, source, valid_until, value
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0;
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

create or replace function secretaria_reference._takes_fast_path()
returns boolean
language sql
stable
parallel safe
as $$
  select (current_setting('is_superuser') = 'on'
      or secretaria.outer_role() in ('secretaria_service', 'secretaria_operator', 'secretaria_owner', 'secretaria_quota'))
    and coalesce(current_setting('secretaria.test_now', true), '') = ''
$$;
comment on function secretaria_reference._takes_fast_path() is
  'Stable; no locks. Whether the caller may ask for every company, and the clock is not moved: no more is to be looked
up. The server''s is_superuser is that of the outer role. Small enough to be put in place of its call.';

create or replace function secretaria_reference._check_slow_path(
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
begin
  if p_company is null or p_feature is null or p_required is null then
    raise exception 'company_id, feature and required must be given' using errcode = 'null_value_not_allowed';
  end if;
  if p_required < 0 then
    raise exception 'required is negative: %', p_required using errcode = 'invalid_parameter_value';
  end if;
  perform secretaria_reference._authorise(p_company, 'read');
  select c.*
  into allowed, reason, feature_kind, limit_value, used, reserved, remaining, overage, soft_limit, period_start,
    period_end, source, checked_at, value
  from secretaria_reference._check(p_company, p_feature, p_required, p_at) c;
end
$$;
comment on function secretaria_reference._check_slow_path(bigint, text, bigint, timestamptz) is
  'Stable; no locks. What check_feature_access answers where one read is not enough: arguments, caller and sources are
looked at.
22004, 22023, 42501.';

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
#variable_conflict use_variable
begin
  -- One statement, since each expression of a function is set up again in each transaction. It finds nothing where
  -- the caller, the arguments, the clock or the row ask for more than one read.
  select
    u.allowed and (u.kind <> 'metered' or u.limit_value is null or u.soft
      or required <= greatest(u.limit_value - u.used - u.reserved, 0)),
    case
      when not u.allowed or u.kind <> 'metered' or u.limit_value is null
        or required <= greatest(u.limit_value - u.used - u.reserved, 0) then u.reason
      when u.soft then 'soft_limit_exceeded'
      else 'usage_limit_reached'
    end,
    u.kind,
    case when u.kind = 'metered' then u.limit_value end,
    case when u.kind = 'metered' then u.used end,
    case when u.kind = 'metered' then u.reserved end,
    case
      when u.kind <> 'metered' then null
      when not u.allowed then 0
      when u.limit_value is not null then greatest(u.limit_value - u.used - u.reserved, 0)
    end,
    case
      when u.kind <> 'metered' then null
      when not u.allowed or u.limit_value is null then 0
      else greatest(u.used - u.limit_value, 0)
    end,
    u.soft, u.period_start, u.period_end, u.source, coalesce(at, statement_timestamp())
  into allowed, reason, feature_kind, limit_value, used, reserved, remaining, overage, soft_limit, period_start,
    period_end, source, checked_at
  from secretaria.feature_usage u
  where u.company_id = check_feature_access.company_id
    and u.feature = check_feature_access.feature
    and u.slot = 0
    and u.slots = 0
    and u.valid_until > coalesce(at, statement_timestamp())
    and u.period_start <= coalesce(at, statement_timestamp())
    and u.period_end > coalesce(at, statement_timestamp())
    and required >= 0
    and secretaria_reference._takes_fast_path();
  if not found then
    select c.*
    into allowed, reason, feature_kind, limit_value, used, reserved, remaining, overage, soft_limit, period_start,
      period_end, source, checked_at
    from secretaria_reference._check_slow_path(company_id, feature, required, at) c;
  end if;
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
#variable_conflict use_variable
declare
  has boolean;
begin
  select u.allowed and (u.kind <> 'metered' or u.limit_value is null or u.soft
    or u.limit_value - u.used - u.reserved >= 1)
  into has
  from secretaria.feature_usage u
  where u.company_id = has_feature.company_id
    and u.feature = has_feature.feature
    and u.slot = 0
    and u.slots = 0
    and u.valid_until > statement_timestamp()
    and u.period_start <= statement_timestamp()
    and u.period_end > statement_timestamp()
    and secretaria_reference._takes_fast_path();
  if found then
    return has;
  end if;
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
