-- What is put right afterwards is a new line with a reason: nothing that was booked is ever changed or taken out.

create or replace function secretaria_reference._audit(p_company bigint, p_action text, p_subject text, p_detail jsonb)
returns void
language sql
as $$
  insert into secretaria.audit_logs (company_id, actor, action, subject, detail, recorded_at)
  values (p_company, secretaria.outer_role(), p_action, p_subject, p_detail, secretaria_reference._now())
$$;
comment on function secretaria_reference._audit(bigint, text, text, jsonb) is
  'Volatile; adds one row to the audit log, under the name of who asked.';

create or replace function secretaria_reference._current_start(p_company bigint, p_feature text, p_now timestamptz)
returns timestamptz
language plpgsql
as $$
declare
  counter record;
begin
  for attempt in 1..2
  loop
    select u.period_start, u.kind
    into counter
    from secretaria.feature_usage u
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
      and u.reason <> 'feature_not_found'
      and u.valid_until > p_now
      and u.period_end > p_now;
    exit when found;
    perform secretaria_reference._refresh(p_company, p_feature, p_now);
  end loop;
  if counter.kind <> 'metered' then
    raise exception 'feature "%" is not metered', p_feature using errcode = 'invalid_parameter_value';
  end if;
  return counter.period_start;
end
$$;
comment on function secretaria_reference._current_start(bigint, text, timestamptz) is
  'Volatile; locks only where the row is out of date. The start of the running period. 42704 an unknown company or
feature, 22023 one that is not metered.';

create or replace function secretaria_reference._restore_credits(
  p_company bigint,
  p_feature text,
  p_used bigint,
  p_limit bigint,
  p_period timestamptz,
  p_now timestamptz
)
returns void
language plpgsql
as $$
declare
  credit record;
  due bigint;
  back bigint;
begin
  select p_limit - coalesce(sum(g.amount - g.consumed), 0) - greatest(r.own_limit, p_used)
  into due
  from secretaria_reference._resolve(p_company, p_now) r
  join secretaria.usage_grants g
    on g.company_id = p_company
    and g.feature = p_feature
    and g.voided_at is null
    and g.effective_at <= p_now
    and (g.expires_at is null or g.expires_at > p_now)
  where r.feature = p_feature
  group by r.own_limit;
  for credit in
    select g.grant_id, t.amount as taken
    from secretaria.usage_grants g
    join secretaria.usage_grant_takings t using (company_id, grant_id)
    where due > 0
      and t.period_start = p_period
      and t.amount > 0
      and g.company_id = p_company
      and g.feature = p_feature
      and g.voided_at is null
      and g.effective_at <= p_now
      and (g.expires_at is null or g.expires_at > p_now)
    order by g.priority desc, g.expires_at desc nulls first, g.created_at desc, g.grant_id desc
    for update of g
  loop
    back := least(due, credit.taken);
    update secretaria.usage_grants g
    set consumed = g.consumed - back
    where g.company_id = p_company
      and g.grant_id = credit.grant_id;
    update secretaria.usage_grant_takings t
    set amount = t.amount - back
    where t.company_id = p_company
      and t.grant_id = credit.grant_id
      and t.period_start = p_period;
    due := due - back;
    exit when due = 0;
  end loop;
end
$$;
comment on function secretaria_reference._restore_credits(
  bigint, text, bigint, bigint, timestamptz, timestamptz) is
  'Volatile; the caller holds the counter''s row. Gives credits back what a correction has taken out of the running
period''s use, last taken first, and no more than that period took.';

create or replace function secretaria_reference._amend(
  p_company bigint,
  p_feature text,
  p_delta bigint,
  p_period timestamptz,
  p_reason text,
  p_amends text,
  p_now timestamptz,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language plpgsql
as $$
#variable_conflict use_column
declare
  line secretaria.usage_events := secretaria_reference._line(p_company, p_feature, p_delta, null, null, p_now);
begin
  line.amends := p_reason;
  line.properties := jsonb_strip_nulls(jsonb_build_object('amends_event', p_amends));
  line.payload_hash := sha256(convert_to(concat_ws('|', p_feature, p_delta, 'amend'), 'UTF8'));
  line.period_start := p_period;
  select b.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference._book(line, p_now, 'record', 0) b;
  perform secretaria_reference._restore_credits(p_company, p_feature, used_after, limit_value, p_period, p_now)
  where p_delta < 0
    and limit_value is not null
    and exists (
      select
      from secretaria.usage_grants g
      join secretaria.feature_usage u using (company_id, feature)
      where g.company_id = p_company
        and g.feature = p_feature
        and g.consumed > 0
        and u.slot = 0
        and u.period_start = p_period
    );
  perform secretaria_reference._audit(p_company, 'usage_amended', p_feature, jsonb_strip_nulls(jsonb_build_object(
    'delta', p_delta, 'reason', p_reason, 'event_id', event_id, 'amends_event', p_amends,
    'used_before', used_before, 'used_after', used_after)));
end
$$;
comment on function secretaria_reference._amend(bigint, text, bigint, timestamptz, text, text, timestamptz) is
  'Volatile; locks the counter''s row, or the closed period''s. Books a correction, gives credits back, and writes down
who did it.';

create or replace function secretaria_reference._adjust(
  p_company bigint,
  p_feature text,
  p_delta bigint,
  p_period timestamptz,
  p_reason text,
  p_amends text,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language plpgsql
as $$
declare
  at timestamptz := secretaria_reference._now();
  current_start timestamptz;
begin
  perform secretaria_reference._authorise(p_company, 'manage');
  if p_feature is null or p_delta is null or p_reason is null then
    raise exception 'feature, delta and reason cannot be null' using errcode = 'null_value_not_allowed';
  end if;
  current_start := secretaria_reference._current_start(p_company, p_feature, at);
  if p_period <> current_start and not exists (
    select
    from secretaria.feature_usage_periods p
    where p.company_id = p_company
      and p.feature = p_feature
      and p.period_start = p_period
  ) then
    raise exception 'no period of feature "%" starts at %', p_feature, p_period
      using errcode = 'invalid_parameter_value';
  end if;
  select a.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference._amend(
    p_company, p_feature, p_delta, coalesce(p_period, current_start), p_reason, p_amends, at) a;
end
$$;
comment on function secretaria_reference._adjust(bigint, text, bigint, timestamptz, text, text) is
  'Volatile; what adjust_feature_usage does.';

create or replace function secretaria_reference.adjust_feature_usage(
  company_id bigint,
  feature text,
  delta bigint,
  period_start timestamptz,
  reason text,
  amends_event text default null,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
  -- An argument and a column of the answer share a name here, which only SQL functions may.
  select a.*
  from secretaria_reference._adjust($1, $2, $3, $4, $5, $6) a
$$;
comment on function secretaria_reference.adjust_feature_usage(bigint, text, bigint, timestamptz, text, text) is
  'Volatile; locks the counter''s row, or the closed period''s, until the transaction ends. Books a correction, up or
down, in the running period (null) or a closed one, whatever the limit. Needs manage. 22004 nulls, 22023 a period that
never was, 42704 an unknown company or feature, 22003 below zero or overflow, 40001 and 40P01 to be tried again.';

create or replace function secretaria_reference._set(
  p_company bigint,
  p_feature text,
  p_value bigint,
  p_reason text,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language plpgsql
as $$
declare
  at timestamptz := secretaria_reference._now();
  start timestamptz;
  now_used bigint;
begin
  perform secretaria_reference._authorise(p_company, 'manage');
  if p_feature is null or p_value is null or p_reason is null then
    raise exception 'feature, value and reason cannot be null' using errcode = 'null_value_not_allowed';
  end if;
  if p_value < 0 then
    raise exception 'value % is negative', p_value using errcode = 'invalid_parameter_value';
  end if;
  start := secretaria_reference._current_start(p_company, p_feature, at);
  perform secretaria_reference._merge_shards(p_company, p_feature);
  select u.used, u.period_start
  into now_used, start
  from secretaria.feature_usage u
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0
  for update;
  select a.*
  into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
    thresholds_crossed, period_start, period_end, event_id
  from secretaria_reference._amend(p_company, p_feature, p_value - now_used, start, p_reason, null, at) a;
end
$$;
comment on function secretaria_reference._set(bigint, text, bigint, text) is 'Volatile; what set_feature_usage does.';

create or replace function secretaria_reference.set_feature_usage(
  company_id bigint,
  feature text,
  value bigint,
  reason text,
  out accepted boolean,
  out reason text,
  out duplicate boolean,
  out used_before bigint,
  out used_after bigint,
  out reserved bigint,
  out limit_value bigint,
  out remaining bigint,
  out overage bigint,
  out thresholds_crossed smallint[],
  out period_start timestamptz,
  out period_end timestamptz,
  out event_id text
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
  select a.*
  from secretaria_reference._set($1, $2, $3, $4) a
$$;
comment on function secretaria_reference.set_feature_usage(bigint, text, bigint, text) is
  'Volatile; locks the counter''s row until the transaction ends. Books the difference to a count that is known (seats),
whatever the limit. Needs manage. 22004 nulls, 22023 negative, 42704 an unknown company or feature, 40001 and 40P01 to
be tried again.';
