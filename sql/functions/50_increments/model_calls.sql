-- One model call: its tokens, its price, and the reservation it settles.

create or replace function secretaria_reference.increment_ai_usage(
  company_id bigint,
  model text,
  input_tokens bigint,
  output_tokens bigint,
  cached_tokens bigint default 0,
  idempotency_key text default null,
  occurred_at timestamptz default null,
  reservation_id uuid default null,
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
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := secretaria_reference._now();
  counted text := (
    select f.feature
    from secretaria.features_catalog f
    where f.fact = 'model_tokens'
      and f.status <> 'archived'
  );
  line secretaria.usage_events;
  held secretaria.usage_reservations;
begin
  perform secretaria_reference._authorise(company_id, 'use');
  if model is null or input_tokens is null or output_tokens is null or cached_tokens is null then
    raise exception 'model and tokens cannot be null' using errcode = 'null_value_not_allowed';
  end if;
  if input_tokens < 0 or output_tokens < 0 or cached_tokens not between 0 and input_tokens then
    raise exception 'tokens cannot be negative, and cached ones are part of the input'
      using errcode = 'invalid_parameter_value';
  end if;
  if length(model) > 255 then
    raise exception 'a model''s name has at most 255 characters' using errcode = 'invalid_parameter_value';
  end if;
  if counted is null then
    raise exception 'no feature counts tokens' using errcode = 'undefined_object';
  end if;
  if reservation_id is not null then
    held := secretaria_reference._take(company_id, reservation_id);
    if held.feature <> counted then
      raise exception 'reservation % is not for tokens', reservation_id using errcode = 'invalid_parameter_value';
    end if;
  end if;
  line := secretaria_reference._line(
    company_id, counted, input_tokens + output_tokens, idempotency_key, occurred_at, at);
  line.fact := 'model_tokens';
  line.model := model;
  line.tokens_in := input_tokens;
  line.tokens_out := output_tokens;
  line.tokens_cached := cached_tokens;
  line.payload_hash := sha256(convert_to(
    secretaria_reference._tokens_payload(model, input_tokens, output_tokens, cached_tokens), 'UTF8'));
  -- The tokens are spent: a reservation that has ended meanwhile only means that nothing is given back.
  if held.state = 'held' and held.expires_at > at then
    select s.*
    into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
      thresholds_crossed, period_start, period_end, event_id
    from secretaria_reference._settle(held, line, at) s;
  else
    select b.*
    into accepted, reason, duplicate, used_before, used_after, reserved, limit_value, remaining, overage,
      thresholds_crossed, period_start, period_end, event_id
    from secretaria_reference._book(
      line, at, case when secretaria_reference._may(company_id, 'manage') then 'record' else 'reject' end, 0) b;
  end if;
  if accepted and not duplicate then
    perform secretaria_reference._sum_up(
      array[company_id], array['model_tokens'], array[model], array[line.day], array[line.amount],
      array[input_tokens], array[output_tokens], array[cached_tokens]);
  end if;
end
$$;
comment on function secretaria_reference.increment_ai_usage(
  bigint, text, bigint, bigint, bigint, text, timestamptz, uuid) is
  'Volatile; locks the reservation, the ledger line, the counter, then daily totals and the monthly sum, until the
transaction ends. Books a model call, at the price of its day; who may manage records what was spent, others are refused
beyond the limit. Settles the reservation if it still holds. 22004 nulls, 22023 bad tokens, key, instant or reservation,
42704 unknown, 42501 another company, 23505 the key with another payload, 22003 overflow, 40001 and 40P01 to be tried
again.';
