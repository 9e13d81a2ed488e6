-- From one plan to another: the preview and the change count by the same lines, so that neither says otherwise.

create or replace function secretaria_reference._change_lines(
  p_company bigint, p_subscription uuid, p_version bigint, p_at timestamptz,
  out line text, out amount_minor bigint, out currency text)
returns setof record
language plpgsql
stable
as $$
declare
  held record;
  sold record;
begin
  select s.anchor_at, s.time_zone, v.price_minor, v.currency, v.billing_interval,
    s.status = 'trialing' and s.trial_ends_at > p_at as is_free
  from secretaria.subscriptions s
  join secretaria.plan_versions v
    on v.plan_version_id = case when s.next_change_at <= p_at then s.next_plan_version_id else s.plan_version_id end
  where s.company_id = p_company
    and s.subscription_id = p_subscription
  into held;
  select v.price_minor, v.currency, v.billing_interval
  from secretaria.plan_versions v
  where v.plan_version_id = p_version
  into sold;
  if held.currency <> sold.currency then
    raise exception 'the plans are priced in % and %', held.currency, sold.currency
      using errcode = 'invalid_parameter_value';
  end if;
  -- Each plan over its own billing period, in whole seconds; both shares are rounded down. A trial costs nothing.
  return query
  select it.line, case when held.is_free then 0 else it.sign * div(
      it.price_minor::numeric * (floor(extract(epoch from p.period_end)) - floor(extract(epoch from p_at))),
      greatest(floor(extract(epoch from p.period_end)) - floor(extract(epoch from p.period_start)), 1)) end::bigint,
    sold.currency::text
  from (values
    (1, 'unused_time', -1, held.price_minor, held.billing_interval),
    (2, 'remaining_time', 1, sold.price_minor, sold.billing_interval)
  ) as it (place, line, sign, price_minor, billing_interval)
  cross join lateral secretaria_reference.current_period(held.anchor_at, it.billing_interval, held.time_zone, p_at) p
  order by it.place;
end
$$;
comment on function secretaria_reference._change_lines(bigint, uuid, bigint, timestamptz) is
  'Stable; no locks. What is given back for the time left of the old plan, and charged for it under the new one, in the
currency''s minor unit. 22023 for two currencies.';

create or replace function secretaria_reference.preview_plan_change(
  company_id bigint,
  subscription_id uuid,
  plan_version_id bigint,
  at timestamptz default null,
  out line text,
  out amount_minor bigint,
  out currency text
)
returns setof record
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  asked_at timestamptz := coalesce(preview_plan_change.at, secretaria_reference._now());
  held record;
begin
  perform secretaria_reference._authorise(preview_plan_change.company_id, 'manage');
  if preview_plan_change.subscription_id is null then
    raise exception 'subscription_id is null' using errcode = 'null_value_not_allowed';
  end if;
  select s.status, s.ended_at, s.cancel_at
  from secretaria.subscriptions s
  where s.company_id = preview_plan_change.company_id
    and s.subscription_id = preview_plan_change.subscription_id
  into held;
  if not found then
    raise exception 'company % has no subscription %',
      preview_plan_change.company_id, preview_plan_change.subscription_id
      using errcode = 'undefined_object';
  end if;
  if held.ended_at is not null or held.status = 'canceled' or held.cancel_at <= asked_at then
    raise exception 'subscription % is over', preview_plan_change.subscription_id
      using errcode = 'object_not_in_prerequisite_state', hint = 'create the next one';
  end if;
  perform secretaria_reference._require_published(preview_plan_change.plan_version_id);
  return query
  select l.line, l.amount_minor, l.currency
  from secretaria_reference._change_lines(preview_plan_change.company_id, preview_plan_change.subscription_id,
    preview_plan_change.plan_version_id, asked_at) l;
end
$$;
comment on function secretaria_reference.preview_plan_change(bigint, uuid, bigint, timestamptz) is
  'Stable; no locks. The lines an immediate change would bill at an instant (null: now): unused_time, zero or below, and
remaining_time. 42501 without the power to manage, 22004 for nulls, 42704 for an unknown subscription or version,
55000 for a subscription that is over or a version that is not published, 22023 for two currencies.';

create or replace function secretaria_reference.change_subscription_plan(
  company_id bigint,
  subscription_id uuid,
  plan_version_id bigint,
  policy text default 'immediate',
  proration text default 'create_prorations',
  out effective_at timestamptz,
  out proration_minor bigint,
  out currency text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  held record;
begin
  perform secretaria_reference._authorise(change_subscription_plan.company_id, 'manage');
  if change_subscription_plan.policy is null or change_subscription_plan.proration is null then
    raise exception 'policy or proration is null' using errcode = 'null_value_not_allowed';
  end if;
  if change_subscription_plan.policy not in ('immediate', 'end_of_term')
    or change_subscription_plan.proration not in ('create_prorations', 'none') then
    raise exception 'no policy or proration is called % or %',
      change_subscription_plan.policy, change_subscription_plan.proration using errcode = 'invalid_parameter_value';
  end if;
  perform secretaria_reference._require_published(change_subscription_plan.plan_version_id);
  perform secretaria_reference._hold_open_subscription(
    change_subscription_plan.company_id, change_subscription_plan.subscription_id, at);
  select s.plan_version_id, s.next_plan_version_id, s.cancel_at, p.period_end
  from secretaria.subscriptions s
  join secretaria.plan_versions v using (plan_version_id)
  cross join lateral secretaria_reference.current_period(s.anchor_at, v.billing_interval, s.time_zone, at) p
  where s.company_id = change_subscription_plan.company_id
    and s.subscription_id = change_subscription_plan.subscription_id
  into held;
  -- Both currencies are compared here, whatever is billed.
  select coalesce(sum(l.amount_minor), 0), min(l.currency)
  from secretaria_reference._change_lines(change_subscription_plan.company_id, change_subscription_plan.subscription_id,
    change_subscription_plan.plan_version_id, at) l
  into proration_minor, currency;
  effective_at := at;
  if change_subscription_plan.policy = 'end_of_term' then
    effective_at := held.period_end;
    proration_minor := 0;
    if held.cancel_at <= effective_at then
      raise exception 'subscription % is over before the change', change_subscription_plan.subscription_id
        using errcode = 'object_not_in_prerequisite_state', hint = 'resume it first';
    end if;
  elsif change_subscription_plan.proration = 'none' then
    proration_minor := 0;
  end if;
  perform secretaria_reference._move_to_plan(change_subscription_plan.company_id,
    change_subscription_plan.subscription_id, change_subscription_plan.plan_version_id, effective_at, at,
    jsonb_build_object('from', held.plan_version_id, 'to', change_subscription_plan.plan_version_id,
      'policy', change_subscription_plan.policy, 'proration_minor', proration_minor, 'currency', currency,
      'dropped', held.next_plan_version_id));
end
$$;
comment on function secretaria_reference.change_subscription_plan(bigint, uuid, bigint, text, text) is
  'Volatile; locks the subscription''s row, then the company''s rights. Immediate: from now, billed by the lines of
preview_plan_change; end_of_term: from the end of the billing period, nothing to bill. A change that waits is dropped,
also by a change to the plan it has. 42501 without the power to manage, 22004 for nulls, 22023 for another policy or
currency, 42704 for an unknown subscription or version, 55000 for one that is over by then or not published.';

create or replace function secretaria_reference._move_to_plan(
  p_company bigint, p_subscription uuid, p_version bigint, p_effective_at timestamptz, p_at timestamptz, p_detail jsonb)
returns void
language plpgsql
volatile
as $$
begin
  if p_effective_at > p_at then
    -- Asked again for what is already arranged: nothing new to say.
    update secretaria.subscriptions s
    set next_plan_version_id = p_version, next_change_at = p_effective_at, updated_at = p_at
    where s.company_id = p_company
      and s.subscription_id = p_subscription
      and (s.next_plan_version_id, s.next_change_at) is distinct from (p_version, p_effective_at);
  else
    update secretaria.subscriptions s
    set plan_version_id = p_version, next_plan_version_id = null, next_change_at = null, updated_at = p_at
    where s.company_id = p_company
      and s.subscription_id = p_subscription
      and (s.plan_version_id <> p_version or s.next_plan_version_id is not null);
  end if;
  if found then
    perform secretaria_reference._record_step(p_company, p_subscription,
      case when p_effective_at > p_at then 'plan_change_scheduled' else 'plan_changed' end,
      p_detail || jsonb_build_object('effective_at', p_effective_at), p_at);
  end if;
end
$$;
comment on function secretaria_reference._move_to_plan(bigint, uuid, bigint, timestamptz, timestamptz, jsonb) is
  'Volatile; locks the subscription''s row, then the company''s rights. Writes the plan, or the one it moves to; says
nothing where nothing changed.';
