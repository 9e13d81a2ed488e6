-- What a company may do at an instant, from its plan, overrides, flags, status and credits alone.

create or replace function secretaria_reference._threshold_reached(p_used bigint, p_limit bigint)
returns smallint
language sql
immutable
parallel safe
as $$
  select case
    when coalesce(p_limit, 0) <= 0 then 0
    when p_used >= p_limit then 100
    when p_used::numeric * 100 >= p_limit::numeric * 80 then 80
    else 0
  end::smallint
$$;
comment on function secretaria_reference._threshold_reached(bigint, bigint) is
  'Immutable; no locks. The highest of 0, 80 and 100 that the use is at or above; 0 without a limit.';

-- The use of a period that the row is in, or the closed one; what a grant gave is told from it.
create or replace function secretaria_reference._used_in(p_company bigint, p_feature text, p_period_start timestamptz)
returns bigint
language plpgsql
stable
parallel safe
as $$
begin
  return coalesce(
    (
      select sum(u.used)::bigint
      from secretaria.feature_usage u
      where u.company_id = p_company
        and u.feature = p_feature
        and u.period_start = p_period_start
    ),
    (
      select c.used
      from secretaria.feature_usage_periods c
      where c.company_id = p_company
        and c.feature = p_feature
        and c.period_start = p_period_start
    ),
    0);
end
$$;
comment on function secretaria_reference._used_in(bigint, text, timestamptz) is
  'Stable; no locks. What was used in the period that starts then, running or closed; 0 for one never seen.';

create or replace function secretaria_reference._credits(
  p_company bigint,
  p_feature text,
  p_own_limit bigint,
  p_period_start timestamptz,
  p_at timestamptz,
  out total bigint,
  out changes_at timestamptz
)
language plpgsql
stable
parallel safe
as $$
begin
  -- What a period took from grants is part of its limit, since it is part of its use; so much of the use as passes
  -- the plan's own limit was taken from them, unless they gave less.
  select
    (coalesce(sum(g.amount - g.consumed) filter (where g.in_force), 0)
      + least(
        coalesce(sum(g.taken), 0),
        greatest(secretaria_reference._used_in(p_company, p_feature, p_period_start) - p_own_limit, 0)))::bigint,
    min(least(
      case when g.effective_at > p_at then g.effective_at end,
      case when g.expires_at > p_at then g.expires_at end)) filter (where g.voided_at is null)
  into total, changes_at
  from (
    select
      n.*,
      t.amount as taken,
      n.voided_at is null and n.effective_at <= p_at and (n.expires_at is null or n.expires_at > p_at) as in_force
    from secretaria.usage_grants n
    left join secretaria.usage_grant_takings t
      on t.company_id = n.company_id
      and t.grant_id = n.grant_id
      and t.period_start = p_period_start
    where n.company_id = p_company
      and n.feature = p_feature
      and (n.expires_at is null or n.expires_at > p_period_start)
      and (n.voided_at is null or n.voided_at > p_period_start)
  ) g;
end
$$;
comment on function secretaria_reference._credits(bigint, text, bigint, timestamptz, timestamptz) is
  'Stable; no locks. What grants add to a plan''s own limit in the period: what is left of those in force and what the
period took already. changes_at: when the next of them begins or ends. 22003 if the sum is no bigint.';

create or replace function secretaria_reference._resolve(p_company bigint, p_at timestamptz)
returns table (
  feature text,
  kind text,
  allowed boolean,
  soft boolean,
  limit_value bigint,
  period_start timestamptz,
  period_end timestamptz,
  valid_until timestamptz,
  reason text,
  source text,
  value jsonb,
  own_limit bigint
)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
begin
  return query
  with live as (
    select
      s.*,
      p.reason as lapse,
      ends.at as ends_at,
      p.allows
        and (p.ends_with is null or coalesce(ends.at > p_at, false))
        and coalesce(s.cancel_at > p_at, true) as holds,
      case when s.next_change_at <= p_at then s.next_plan_version_id else s.plan_version_id end as version
    from secretaria.subscriptions s
    join secretaria.subscription_policies p
      on p.status = s.status
    cross join lateral (
      select case p.ends_with when 'trial' then s.trial_ends_at when 'grace' then s.grace_until end as at
    ) ends
    where s.company_id = p_company
      and s.ended_at is null
  ),
  ruled as (
    select
      c.feature,
      c.kind,
      c.reset,
      l.subscription_id is not null as subscribed,
      l.anchor_at,
      l.time_zone,
      l.lapse,
      f.limit_value as plan_limit,
      f.soft as plan_soft,
      f.value as plan_value,
      o.allowed as override_allowed,
      o.limit_value as override_limit,
      o.soft as override_soft,
      o.value as override_value,
      least(
        'infinity',
        case when l.ends_at > p_at then l.ends_at end,
        case when l.cancel_at > p_at then l.cancel_at end,
        case when l.next_change_at > p_at then l.next_change_at end,
        case when o.expires_at > p_at then o.expires_at end) as valid_until,
      case
        when c.status = 'disabled' then 'disabled'
        when not coalesce(g.enabled, true) then 'switched off'
        when coalesce(l.holds, false) and o.mode = 'replace' then 'replaced'
        when coalesce(l.holds, false) and f.feature is not null and o.mode = 'stack' then 'stacked'
        when coalesce(l.holds, false) and f.feature is not null then 'planned'
        when c.always_on then 'always'
        when l.subscription_id is null then 'unsubscribed'
        when not l.holds then 'lapsed'
        else 'unplanned'
      end as rule
    from secretaria.features_catalog c
    left join live l
      on true
    left join secretaria.plan_features f
      on f.plan_version_id = l.version and f.feature = c.feature
    left join secretaria.feature_flags g
      on g.company_id = p_company and g.feature = c.feature
    left join secretaria.company_overrides o
      on o.company_id = p_company and o.feature = c.feature and (o.expires_at is null or o.expires_at > p_at)
    where c.status <> 'archived'
  ),
  decided as (
    select
      r.*,
      coalesce(r.rule in ('stacked', 'planned', 'always') or r.rule = 'replaced' and r.override_allowed, false) as may,
      case r.rule when 'replaced' then r.override_soft when 'stacked' then r.plan_soft or r.override_soft
        when 'planned' then r.plan_soft else false end as softly,
      case when r.kind = 'metered' then
        case r.rule when 'replaced' then r.override_limit when 'stacked' then r.plan_limit + r.override_limit
          when 'planned' then r.plan_limit end
      end as own
    from ruled r
  )
  select
    d.feature,
    d.kind,
    d.may,
    d.may and d.softly,
    case when d.may then d.own + credits.total end,
    period.period_start,
    period.period_end,
    least(d.valid_until, case when d.may and d.own is not null then credits.changes_at end),
    case
      when d.may then 'ok'
      when d.rule in ('disabled', 'switched off') then 'feature_disabled'
      when d.rule = 'unsubscribed' then 'no_subscription'
      when d.rule = 'lapsed' then d.lapse
      else 'feature_unavailable'
    end,
    case
      when d.rule in ('disabled', 'always') then 'catalogue'
      when d.rule = 'switched off' then 'flag'
      when d.rule in ('replaced', 'stacked') then 'override'
      when d.rule in ('unsubscribed', 'lapsed') then 'subscription'
      else 'plan'
    end,
    case when d.may then
      case d.rule when 'replaced' then d.override_value when 'stacked' then coalesce(d.override_value, d.plan_value)
        when 'planned' then d.plan_value end
    end,
    case when d.may then d.own end
  from decided d
  cross join lateral secretaria_reference.current_period(
    coalesce(d.anchor_at, p_at),
    case when d.subscribed then d.reset else 'never' end,
    coalesce(d.time_zone, 'UTC'),
    p_at) period
  left join lateral secretaria_reference._credits(p_company, d.feature, d.own, period.period_start, p_at) credits
    on true
  order by d.feature;
end
$$;
comment on function secretaria_reference._resolve(bigint, timestamptz) is
  'Stable; no locks. What a company may do at an instant, feature by feature, from the sources alone: the catalogue''s
switch, its flag, its live subscription and what its status allows, its override, its plan, and credits on top.
own_limit is the limit before credits: what is used beyond it is taken from grants.';
