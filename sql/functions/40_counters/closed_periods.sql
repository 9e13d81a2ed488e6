-- What happened before the running period amends the one it belongs to.

create or replace function secretaria_reference._closed_period(p_company bigint, p_feature text, p_at timestamptz)
returns timestamptz
language plpgsql
as $$
declare
  found_start timestamptz;
begin
  select p.period_start
  into found_start
  from secretaria.feature_usage_periods p
  where p.company_id = p_company
    and p.feature = p_feature
    and p.period_start <= p_at
    and p.period_end > p_at
  order by p.period_start desc
  limit 1;
  if found_start is null then
    -- It was not used then. The period ends where the next one that is known begins, if an anchor has moved.
    insert into secretaria.feature_usage_periods (company_id, feature, period_start, period_end, limit_value, used)
    select u.company_id, u.feature, w.period_start, least(w.period_end, u.period_start), u.limit_value, 0
    from secretaria.feature_usage u
    join secretaria.features_catalog f using (feature)
    left join secretaria.subscriptions s
      on s.company_id = u.company_id
      and s.ended_at is null
    cross join lateral secretaria_reference.current_period(
      coalesce(s.anchor_at, u.period_start), f.reset, coalesce(s.time_zone, 'UTC'), p_at) w
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
    on conflict (company_id, feature, period_start) do update
    set period_end = greatest(feature_usage_periods.period_end, excluded.period_end)
    returning period_start into strict found_start;
  end if;
  return found_start;
end
$$;
comment on function secretaria_reference._closed_period(bigint, text, timestamptz) is
  'Volatile; may lock the row it answers. The start of the closed period an instant is in; one is opened and closed
where the feature was not used then.';

create or replace function secretaria_reference._book_closed(
  p_line secretaria.usage_events,
  p_on_exceed text,
  p_held bigint,
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
  line secretaria.usage_events := p_line;
  closed record;
begin
  line.period_start := coalesce(line.period_start,
    secretaria_reference._closed_period(line.company_id, line.feature, line.occurred_at));
  insert into secretaria.feature_usage_periods as p (company_id, feature, period_start, period_end, limit_value, used)
  select u.company_id, u.feature, line.period_start, u.period_start, u.limit_value, 0
  from secretaria.feature_usage u
  where u.company_id = line.company_id
    and u.feature = line.feature
    and u.slot = 0
  on conflict do nothing;
  select p.period_end, p.limit_value, p.used
  into strict closed
  from secretaria.feature_usage_periods p
  where p.company_id = line.company_id
    and p.feature = line.feature
    and p.period_start = line.period_start
  for update;
  if closed.used + line.amount < 0 then
    raise exception 'used would fall below zero' using errcode = 'numeric_value_out_of_range';
  end if;
  accepted := true;
  reason := 'ok';
  duplicate := false;
  if line.amount > greatest(closed.limit_value - closed.used, p_held) and p_on_exceed in ('reject', 'cap') then
    line.amount := case p_on_exceed when 'cap' then greatest(closed.limit_value - closed.used, 0) else 0 end;
    if line.amount = 0 then
      accepted := false;
      reason := 'usage_limit_reached';
    end if;
  end if;
  used_before := closed.used;
  used_after := closed.used + line.amount;
  reserved := 0;
  limit_value := closed.limit_value;
  remaining := case when limit_value is not null then greatest(limit_value - used_after, 0) end;
  overage := coalesce(greatest(used_after - limit_value, 0), 0);
  thresholds_crossed := '{}';
  period_start := line.period_start;
  period_end := closed.period_end;
  event_id := line.idempotency_key;
  if not accepted then
    return;
  end if;
  line.used_before := used_before;
  line.used_after := used_after;
  line.limit_value := limit_value;
  line.period_end := period_end;
  insert into secretaria.usage_events
  select line.*
  on conflict do nothing;
  if not found then
    raise exception 'idempotency key "%" is being booked by another transaction', line.idempotency_key
      using errcode = 'serialization_failure', hint = 'try again';
  end if;
  update secretaria.feature_usage_periods p
  set used = p.used + line.amount
  where p.company_id = line.company_id
    and p.feature = line.feature
    and p.period_start = line.period_start;
end
$$;
comment on function secretaria_reference._book_closed(secretaria.usage_events, text, bigint) is
  'Volatile; locks the closed period''s row. Amends a period that is over: nothing is announced and no credit is taken.
22003 for less than nothing, 40001 when its key is being booked.';
