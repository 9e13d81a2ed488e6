-- An alert leaves through the outbox, in the transaction that crossed the threshold: once, also when several cross it.

create or replace function secretaria_reference._micros(p_at timestamptz)
returns bigint
language sql
immutable
parallel safe
as $$
  select case when isfinite(p_at) then (extract(epoch from p_at) * 1000000)::bigint end
$$;
comment on function secretaria_reference._micros(timestamptz) is
  'Immutable; no locks. UTC microseconds, null for the infinities.';

create or replace function secretaria_reference._announce(p_company bigint, p_kind text, p_payload jsonb)
returns uuid
language plpgsql
as $$
declare
  at_micros bigint := (extract(epoch from secretaria_reference._now()) * 1000000)::bigint;
  -- Length-prefixed parts, as in every derived id; SHA-256 and version 8, since SHA-1 is not built in.
  digest bytea := substr(sha256(
    int4send(5) || 'alert'::bytea
    || int4send(8) || int8send(p_company)
    || int4send(octet_length(p_kind)) || convert_to(p_kind, 'UTF8')
    || convert_to(p_payload::text, 'UTF8')), 1, 16);
  event uuid;
  placed record;
begin
  digest := set_byte(digest, 6, get_byte(digest, 6) & 15 | 128);
  digest := set_byte(digest, 8, get_byte(digest, 8) & 63 | 128);
  event := encode(digest, 'hex')::uuid;
  select c.placement_spread, c.placement_epoch
  into placed
  from secretaria.companies c
  where c.company_id = p_company;
  insert into secretaria.outbox (company_id, topic, key, placed_by, spread, event_id, headers, payload)
  select p_company, 'alerts', convert_to(p_company::text, 'UTF8'), '', coalesce(placed.placement_spread, 1), event,
    (
      select jsonb_agg(jsonb_build_array(h.name, encode(convert_to(h.value, 'UTF8'), 'base64')) order by h.place)
      from (values
        (1, 'company', p_company::text),
        (2, 'event_id', event::text),
        (3, 'kind', p_kind),
        (4, 'schema', '1'),
        (5, 'epoch', coalesce(placed.placement_epoch, 1)::text),
        (6, 'occurred_at', at_micros::text),
        (7, 'received_at', at_micros::text)
      ) as h (place, name, value)
    ),
    convert_to(jsonb_build_object(
      'schema', 1, 'event_id', event, 'company_id', p_company, 'kind', p_kind,
      'occurred_at', at_micros, 'received_at', at_micros, 'payload', p_payload)::text, 'UTF8');
  return event;
end
$$;
comment on function secretaria_reference._announce(bigint, text, jsonb) is
  'Volatile; adds one row to the outbox for topic alerts, under the company''s key, and answers its event id: the same
company, kind and payload always have the same id.';

create or replace function secretaria_reference._crossed(
  p_company bigint,
  p_feature text,
  p_before bigint,
  p_after bigint
)
returns smallint[]
language sql
stable
as $$
  select coalesce(array_agg(t.threshold order by t.threshold), '{}')
  from secretaria.feature_usage u
  cross join (values (80::smallint), (100)) as t (threshold)
  where u.company_id = p_company
    and u.feature = p_feature
    and u.slot = 0
    and u.limit_value > 0
    and t.threshold > u.fired_threshold
    and p_before::numeric * 100 < t.threshold * u.limit_value::numeric
    and p_after::numeric * 100 >= t.threshold * u.limit_value::numeric
$$;
comment on function secretaria_reference._crossed(bigint, text, bigint, bigint) is
  'Stable; the caller holds the counter''s row. The thresholds (80, 100) that use has just passed on its way up and that
have not fired since limit and period last changed.';

create or replace function secretaria_reference._announce_threshold(
  p_counter secretaria.feature_usage,
  p_threshold smallint,
  p_used bigint
)
returns void
language plpgsql
as $$
begin
  insert into secretaria.usage_alerts as a
    (company_id, feature, period_start, threshold, limit_value, announced_at)
  values (p_counter.company_id, p_counter.feature, p_counter.period_start, p_threshold, p_counter.limit_value,
    secretaria_reference._now())
  on conflict (company_id, feature, period_start, threshold) do update
  set limit_value = excluded.limit_value, announced_at = excluded.announced_at
  where a.limit_value < excluded.limit_value;
  perform secretaria_reference._announce(p_counter.company_id, 'usage_threshold', jsonb_build_object(
    'feature', p_counter.feature, 'threshold', p_threshold, 'limit', p_counter.limit_value, 'used', p_used,
    'threshold_epoch', p_counter.arming, 'period_start', secretaria_reference._micros(p_counter.period_start),
    'period_end', secretaria_reference._micros(p_counter.period_end)));
end
$$;
comment on function secretaria_reference._announce_threshold(secretaria.feature_usage, smallint, bigint) is
  'Volatile; the caller holds the counter''s row. Announces that use is at or above a threshold of the limit, and
writes down that it did.';

create or replace function secretaria_reference._fire(
  p_company bigint,
  p_feature text,
  p_before bigint,
  p_after bigint
)
returns smallint[]
language plpgsql
as $$
declare
  crossed constant smallint[] := secretaria_reference._crossed(p_company, p_feature, p_before, p_after);
  threshold smallint;
  counter secretaria.feature_usage;
begin
  foreach threshold in array crossed
  loop
    -- The first of them marks them all.
    update secretaria.feature_usage u
    set fired_threshold = crossed[array_length(crossed, 1)]
    where u.company_id = p_company
      and u.feature = p_feature
      and u.slot = 0
    returning u.*
    into counter;
    perform secretaria_reference._announce_threshold(counter, threshold, p_after);
  end loop;
  return crossed;
end
$$;
comment on function secretaria_reference._fire(bigint, text, bigint, bigint) is
  'Volatile; the caller holds the counter''s row. Announces the thresholds (80, 100) that used has just passed on its
way up, each once until limit or period change, and answers them.';

create or replace function secretaria_reference._store_and_announce(p_company bigint, p_at timestamptz)
returns void
language plpgsql
as $$
declare
  before constant secretaria.feature_usage[] := array(
    select u
    from secretaria.feature_usage u
    where u.company_id = p_company
      and u.slot = 0
  );
  passed record;
begin
  perform secretaria_reference._store(p_company, p_at);
  for passed in
    select u as counter, t.threshold, u.used
    from secretaria.feature_usage u
    left join unnest(before) as b
      on b.feature = u.feature
      -- What stood in another period, or while nothing was allowed, was not said of this one.
      and b.period_start = u.period_start
      and b.allowed
    cross join unnest(array[80, 100]::smallint[]) as t (threshold)
    where u.company_id = p_company
      and u.slot = 0
      and u.kind = 'metered'
      and u.allowed
      and u.used > 0
      and u.limit_value is distinct from b.limit_value
      and t.threshold > coalesce(b.fired_threshold, 0)
      and u.used::numeric * 100 >= t.threshold * u.limit_value::numeric
      and not exists (
        select
        from secretaria.usage_alerts a
        where a.company_id = u.company_id
          and a.feature = u.feature
          and a.period_start = u.period_start
          and a.threshold = t.threshold
          and a.limit_value >= u.limit_value
      )
    order by u.feature, t.threshold
  loop
    perform secretaria_reference._announce_threshold(passed.counter, passed.threshold, passed.used);
  end loop;
end
$$;
comment on function secretaria_reference._store_and_announce(bigint, timestamptz) is
  'Volatile; for _materialise, which holds the locks and has removed the shards, so that used is all of it. Stores what
resolving says, and announces each threshold that a new limit puts below the use, unless this period''s alert for it has
been announced for this limit or a greater one.';
