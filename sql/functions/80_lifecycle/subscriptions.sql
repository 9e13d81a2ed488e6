-- A subscription from its first day to its last: every step is recorded, audited and announced where it is taken.

create or replace function secretaria_reference._record_step(
  p_company bigint, p_subscription uuid, p_kind text, p_detail jsonb, p_occurred_at timestamptz)
returns void
language plpgsql
volatile
as $$
declare
  recorded uuid;
begin
  insert into secretaria.subscription_events (company_id, subscription_id, kind, detail, occurred_at, recorded_by)
  values (p_company, p_subscription, p_kind, p_detail, p_occurred_at, secretaria.outer_role())
  returning event_id
  into recorded;
  insert into secretaria.audit_logs (company_id, actor, action, subject, detail)
  values (p_company, secretaria.outer_role(), 'subscription_' || p_kind, 'subscription:' || p_subscription, p_detail);
  perform secretaria_reference._announce(p_company, 'subscription_' || p_kind, p_detail || jsonb_build_object(
    'subscription_id', p_subscription, 'subscription_event_id', recorded));
end
$$;
comment on function secretaria_reference._record_step(bigint, uuid, text, jsonb, timestamptz) is
  'Volatile; locks nothing that was there. One subscription event, one audit row and one alert in the outbox.';

create or replace function secretaria_reference._hold_subscription(
  p_company bigint, p_subscription uuid, p_at timestamptz)
returns boolean
language plpgsql
volatile
as $$
declare
  held record;
begin
  if p_subscription is null then
    raise exception 'subscription_id is null' using errcode = 'null_value_not_allowed';
  end if;
  select s.*
  from secretaria.subscriptions s
  where s.company_id = p_company
    and s.subscription_id = p_subscription
  for update
  into held;
  if not found then
    raise exception 'company % has no subscription %', p_company, p_subscription using errcode = 'undefined_object';
  end if;
  if held.ended_at is not null or held.status = 'canceled' or held.cancel_at <= p_at then
    return false;
  end if;
  -- A change whose day has come holds since then; the row is brought up to it before anything else is changed.
  if held.next_change_at <= p_at then
    update secretaria.subscriptions s
    set plan_version_id = held.next_plan_version_id, next_plan_version_id = null, next_change_at = null,
      updated_at = p_at
    where s.company_id = p_company
      and s.subscription_id = p_subscription;
    perform secretaria_reference._record_step(p_company, p_subscription, 'plan_changed', jsonb_build_object(
      'from', held.plan_version_id, 'to', held.next_plan_version_id, 'policy', 'end_of_term',
      'effective_at', held.next_change_at), held.next_change_at);
  end if;
  return true;
end
$$;
comment on function secretaria_reference._hold_subscription(bigint, uuid, timestamptz) is
  'Volatile; locks the subscription''s row. Carries out a change of plan that is due; false if the subscription is over.
22004 for null, 42704 if the company has none of that id.';

create or replace function secretaria_reference._hold_open_subscription(
  p_company bigint, p_subscription uuid, p_at timestamptz)
returns void
language plpgsql
volatile
as $$
begin
  if not secretaria_reference._hold_subscription(p_company, p_subscription, p_at) then
    raise exception 'subscription % is over', p_subscription
      using errcode = 'object_not_in_prerequisite_state', hint = 'create the next one';
  end if;
end
$$;
comment on function secretaria_reference._hold_open_subscription(bigint, uuid, timestamptz) is
  'Volatile; locks the subscription''s row. As _hold_subscription, and 55000 if it is over.';

create or replace function secretaria_reference._require_published(p_version bigint)
returns void
language plpgsql
stable
as $$
declare
  found_state text;
begin
  if p_version is null then
    raise exception 'plan_version_id is null' using errcode = 'null_value_not_allowed';
  end if;
  select v.state
  from secretaria.plan_versions v
  where v.plan_version_id = p_version
  into found_state;
  if found_state is null then
    raise exception 'there is no plan version %', p_version using errcode = 'undefined_object';
  end if;
  if found_state <> 'published' then
    raise exception 'plan version % is %, and only a published one is sold', p_version, found_state
      using errcode = 'object_not_in_prerequisite_state';
  end if;
end
$$;
comment on function secretaria_reference._require_published(bigint) is
  'Stable; no locks. 22004 for null, 42704 for an unknown version, 55000 for a draft and a retired one.';

create or replace function secretaria_reference.create_subscription(
  company_id bigint,
  plan_version_id bigint,
  anchor timestamptz default null,
  time_zone text default null,
  trial interval default null
)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  made uuid := gen_random_uuid();
  zone text;
  counted_from timestamptz := coalesce(create_subscription.anchor, at);
  trial_end timestamptz;
  over record;
begin
  perform secretaria_reference._authorise(create_subscription.company_id, 'manage');
  perform secretaria_reference._require_published(create_subscription.plan_version_id);
  select coalesce(create_subscription.time_zone, c.time_zone)
  from secretaria.companies c
  where c.company_id = create_subscription.company_id
  into zone;
  if not found then
    raise exception 'there is no company %', create_subscription.company_id using errcode = 'undefined_object';
  end if;
  perform secretaria_reference.current_period(counted_from, 'day', zone, at); -- Refuses what is no zone and no instant.
  if create_subscription.trial <= interval '0' then
    raise exception 'a trial lasts longer than nothing' using errcode = 'invalid_parameter_value';
  end if;
  trial_end := ((at at time zone zone) + create_subscription.trial) at time zone zone;

  -- A subscription that is over is ended here; one that is not makes the index refuse a second one.
  for over in
    select s.subscription_id, s.status, s.cancel_at
    from secretaria.subscriptions s
    where s.company_id = create_subscription.company_id
      and s.ended_at is null
      and (s.status = 'canceled' or s.cancel_at <= at)
    for update
  loop
    update secretaria.subscriptions s
    set status = 'canceled', ended_at = coalesce(over.cancel_at, at), updated_at = at
    where s.company_id = create_subscription.company_id
      and s.subscription_id = over.subscription_id;
    if over.status <> 'canceled' then
      perform secretaria_reference._record_step(create_subscription.company_id, over.subscription_id, 'canceled',
        jsonb_build_object('from', over.status), over.cancel_at);
    end if;
  end loop;

  insert into secretaria.subscriptions
    (company_id, subscription_id, plan_version_id, status, anchor_at, time_zone, trial_ends_at)
  values (create_subscription.company_id, made, create_subscription.plan_version_id,
    case when trial_end is null then 'active' else 'trialing' end, counted_from, zone, trial_end);
  perform secretaria_reference._record_step(create_subscription.company_id, made, 'created', jsonb_build_object(
    'plan_version_id', create_subscription.plan_version_id, 'anchor_at', counted_from, 'time_zone', zone,
    'trial_ends_at', trial_end), at);
  return made;
end
$$;
comment on function secretaria_reference.create_subscription(bigint, bigint, timestamptz, text, interval) is
  'Volatile; locks what it replaces, then the company''s rights. A company has one at a time; one that is over is ended.
A trial counts from now. 42501 without the power to manage, 22004 for a null company or version, 42704 for an unknown
one, 55000 for a version that is not published, 22023 for a bad zone or trial, 23505 (subscriptions_one_live) for a
second one.';

create or replace function secretaria_reference.cancel_subscription(
  company_id bigint, subscription_id uuid, at_period_end boolean default true)
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  open boolean;
  held record;
  over_at timestamptz := at;
begin
  perform secretaria_reference._authorise(cancel_subscription.company_id, 'manage');
  if cancel_subscription.at_period_end is null then
    raise exception 'at_period_end is null' using errcode = 'null_value_not_allowed';
  end if;
  open := secretaria_reference._hold_subscription(
    cancel_subscription.company_id, cancel_subscription.subscription_id, at);
  select s.status, s.cancel_at, s.ended_at, s.anchor_at, s.time_zone, s.trial_ends_at, v.billing_interval
  from secretaria.subscriptions s
  join secretaria.plan_versions v using (plan_version_id)
  where s.company_id = cancel_subscription.company_id
    and s.subscription_id = cancel_subscription.subscription_id
  into held;
  if not open then
    return coalesce(held.cancel_at, held.ended_at);
  end if;
  if cancel_subscription.at_period_end then
    if held.cancel_at is not null then
      return held.cancel_at;
    end if;
    over_at := case
      when held.status = 'trialing' and held.trial_ends_at > at then held.trial_ends_at
      else (
        select p.period_end
        from secretaria_reference.current_period(held.anchor_at, held.billing_interval, held.time_zone, at) p
      )
    end;
  end if;
  update secretaria.subscriptions s
  set cancel_at = over_at, updated_at = at,
    status = case when cancel_subscription.at_period_end then s.status else 'canceled' end
  where s.company_id = cancel_subscription.company_id
    and s.subscription_id = cancel_subscription.subscription_id;
  perform secretaria_reference._record_step(cancel_subscription.company_id, cancel_subscription.subscription_id,
    case when cancel_subscription.at_period_end then 'cancel_scheduled' else 'canceled' end,
    jsonb_build_object('from', held.status, 'cancel_at', over_at), at);
  return over_at;
end
$$;
comment on function secretaria_reference.cancel_subscription(bigint, uuid, boolean) is
  'Volatile; locks the subscription''s row, then the company''s rights. Over at the end of the billing period (of the
trial, while there is one) or at once; says when, and says it again when asked again. A canceled subscription stays the
company''s until the next one is created, so that the reason given is subscription_inactive.
42501 without the power to manage, 22004 for nulls, 42704 for an unknown subscription.';

create or replace function secretaria_reference.resume_subscription(company_id bigint, subscription_id uuid)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  dropped timestamptz;
begin
  perform secretaria_reference._authorise(resume_subscription.company_id, 'manage');
  perform secretaria_reference._hold_open_subscription(
    resume_subscription.company_id, resume_subscription.subscription_id, at);
  select s.cancel_at
  from secretaria.subscriptions s
  where s.company_id = resume_subscription.company_id
    and s.subscription_id = resume_subscription.subscription_id
  into dropped;
  if dropped is null then
    return false;
  end if;
  update secretaria.subscriptions s
  set cancel_at = null, updated_at = at
  where s.company_id = resume_subscription.company_id
    and s.subscription_id = resume_subscription.subscription_id;
  perform secretaria_reference._record_step(resume_subscription.company_id, resume_subscription.subscription_id,
    'resumed', jsonb_build_object('cancel_at', dropped), at);
  return true;
end
$$;
comment on function secretaria_reference.resume_subscription(bigint, uuid) is
  'Volatile; locks the subscription''s row, then the company''s rights. Takes back a cancellation whose day has not
come; false if there is none. 42501 without the power to manage, 22004 for null, 42704 for an unknown subscription,
55000 for one that is over.';

create or replace function secretaria_reference.set_subscription_status(
  company_id bigint, subscription_id uuid, status text, grace interval default null)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  wanted text := set_subscription_status.status;
  held record;
  grace_end timestamptz;
begin
  perform secretaria_reference._authorise(set_subscription_status.company_id, 'manage');
  if wanted is null then
    raise exception 'status is null' using errcode = 'null_value_not_allowed';
  end if;
  if wanted not in ('trialing', 'active', 'past_due', 'canceled', 'suspended') then
    raise exception 'no status is called %', wanted using errcode = 'invalid_parameter_value';
  end if;
  if set_subscription_status.grace is not null
    and (wanted <> 'past_due' or set_subscription_status.grace < interval '0') then
    raise exception 'grace is for what is past due, and is not negative' using errcode = 'invalid_parameter_value';
  end if;
  perform secretaria_reference._hold_open_subscription(
    set_subscription_status.company_id, set_subscription_status.subscription_id, at);
  if wanted = 'canceled' then
    perform secretaria_reference.cancel_subscription(
      set_subscription_status.company_id, set_subscription_status.subscription_id, false);
    return;
  end if;
  select s.*
  from secretaria.subscriptions s
  where s.company_id = set_subscription_status.company_id
    and s.subscription_id = set_subscription_status.subscription_id
  into held;
  if wanted = 'trialing' and held.trial_ends_at is null then
    raise exception 'the subscription has no trial' using errcode = 'invalid_parameter_value';
  end if;
  grace_end := ((at at time zone held.time_zone) + set_subscription_status.grace) at time zone held.time_zone;
  if held.status = wanted and held.grace_until is not distinct from coalesce(grace_end, held.grace_until) then
    return;
  end if;
  update secretaria.subscriptions s
  set status = wanted, grace_until = grace_end, updated_at = at
  where s.company_id = set_subscription_status.company_id
    and s.subscription_id = set_subscription_status.subscription_id;
  perform secretaria_reference._record_step(
    set_subscription_status.company_id, set_subscription_status.subscription_id, 'status_changed',
    jsonb_build_object('from', held.status, 'to', wanted, 'grace_until', grace_end), at);
end
$$;
comment on function secretaria_reference.set_subscription_status(bigint, uuid, text, interval) is
  'Volatile; locks the subscription''s row, then the company''s rights. Past due without grace allows nothing; canceled
is as cancel_subscription at once; the same status again does nothing. 42501 without the power to manage, 22004 for
nulls, 22023 for an unknown status, a trial that never was, or grace where there is none, 42704 for an unknown
subscription, 55000 for one that is over.';
