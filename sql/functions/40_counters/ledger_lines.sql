-- A line of the ledger before it is booked, and what was answered when one was.

create or replace function secretaria_reference._line(
  p_company bigint,
  p_feature text,
  p_amount bigint,
  p_key text,
  p_at timestamptz,
  p_now timestamptz
)
returns secretaria.usage_events
language plpgsql
as $$
declare
  line secretaria.usage_events;
begin
  if length(p_key) not between 1 and 255 then
    raise exception 'an idempotency key has 1 to 255 characters' using errcode = 'invalid_parameter_value';
  end if;
  if p_amount not between -100000000000000 and 100000000000000 then
    raise exception 'an amount is at most 10^14, not %', p_amount using errcode = 'numeric_value_out_of_range';
  end if;
  if p_at < p_now - interval '35 days' or p_at > p_now + interval '5 minutes' then
    raise exception 'occurred_at % is not within 35 days before and 5 minutes after now', p_at
      using errcode = 'invalid_parameter_value';
  end if;
  line.company_id := p_company;
  line.feature := p_feature;
  line.amount := p_amount;
  line.idempotency_key := coalesce(secretaria_reference._own_key(p_company, p_key), gen_random_uuid()::text);
  line.occurred_at := coalesce(p_at, p_now);
  line.day := (line.occurred_at at time zone coalesce((
    select c.time_zone
    from secretaria.companies c
    where c.company_id = p_company
  ), 'UTC'))::date;
  line.recorded_at := statement_timestamp();
  line.model := '';
  line.tokens_in := 0;
  line.tokens_out := 0;
  line.tokens_cached := 0;
  return line;
end
$$;
comment on function secretaria_reference._line(bigint, text, bigint, text, timestamptz, timestamptz) is
  'Volatile; no locks. A line of the ledger to fill in and book. 22003 beyond 10^14, 22023 for a bad key, or an instant
that is not within 35 days before and 5 minutes after now.';

create or replace function secretaria_reference._stored(
  p_line secretaria.usage_events,
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
stable
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  known secretaria.usage_events;
begin
  select e.*
  into known
  from secretaria.usage_events e
  where e.company_id = p_line.company_id
    and e.idempotency_key = p_line.idempotency_key;
  if not found then
    return;
  end if;
  if known.payload_hash <> p_line.payload_hash then
    raise exception 'idempotency key "%" was used for something else', p_line.idempotency_key
      using errcode = 'unique_violation', schema = 'secretaria', table = 'usage_events',
        constraint = 'usage_events_pkey';
  end if;
  accepted := true;
  reason := 'duplicate';
  duplicate := true;
  used_before := known.used_before;
  used_after := known.used_after;
  limit_value := known.limit_value;
  thresholds_crossed := coalesce(known.thresholds, '{}');
  period_start := known.period_start;
  period_end := known.period_end;
  event_id := known.idempotency_key;
  select coalesce(sum(u.reserved), 0)
  into reserved
  from secretaria.feature_usage u
  where u.company_id = known.company_id
    and u.feature = known.feature;
  remaining := greatest(known.limit_value - known.used_after - reserved, 0);
  overage := greatest(known.used_after - known.limit_value, 0);
  if known.limit_value is null then
    remaining := null;
    overage := 0;
  end if;
end
$$;
comment on function secretaria_reference._stored(secretaria.usage_events) is
  'Stable; no locks. What was answered when this key was booked (used is null where it came in bulk), with what is
reserved now; nulls for an unknown key. 23505 when the key was booked with another payload.';

create or replace function secretaria_reference._refresh(p_company bigint, p_feature text, p_now timestamptz)
returns void
language plpgsql
as $$
begin
  if not exists (select from secretaria.companies c where c.company_id = p_company) then
    raise exception 'company % does not exist', p_company using errcode = 'undefined_object';
  end if;
  if not exists (
    select from secretaria.features_catalog f where f.feature = p_feature and f.status <> 'archived'
  ) then
    raise exception 'feature "%" does not exist', p_feature using errcode = 'undefined_object';
  end if;
  perform secretaria_reference._materialise(p_company, p_now);
end
$$;
comment on function secretaria_reference._refresh(bigint, text, timestamptz) is
  'Volatile; locks the company''s epoch row, then its rows. Resolves a company whose row is missing or out of date, and
closes periods that are over. 42704 for an unknown company or feature.';
