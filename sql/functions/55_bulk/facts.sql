-- What the metering processor calls, once a poll and in its own transaction: facts are recorded, never argued with.

create or replace function secretaria_reference._same_length(variadic p_lengths integer[])
returns integer
language plpgsql
immutable
parallel safe
as $$
begin
  if array_position(p_lengths, null) is not null then
    raise exception 'an array is null' using errcode = 'null_value_not_allowed';
  end if;
  if p_lengths[1] <> any (p_lengths) then
    raise exception 'the arrays are not of one length' using errcode = 'invalid_parameter_value';
  end if;
  if p_lengths[1] > 50000 then
    raise exception 'more than 50000 items in one call' using errcode = 'invalid_parameter_value';
  end if;
  return p_lengths[1];
end
$$;
comment on function secretaria_reference._same_length(integer[]) is
  'Immutable; no locks. The one length that all are. 22004 for a null array, 22023 for unequal lengths or above
50,000.';

create or replace function secretaria_reference._tokens_payload(
  p_model text,
  p_input bigint,
  p_output bigint,
  p_cached bigint
)
returns text
language sql
immutable
parallel safe
as $$
  select 'model_tokens|' || p_input || '|' || p_output || '|' || p_cached || '|' || p_model
$$;
comment on function secretaria_reference._tokens_payload(text, bigint, bigint, bigint) is
  'Immutable; no locks. The payload of a model call''s idempotency key, the same for every caller.';

create or replace function secretaria_reference._price(
  p_read bigint,
  p_written bigint,
  p_cached bigint,
  p_input_price bigint,
  p_output_price bigint,
  p_cached_price bigint
)
returns numeric
language sql
immutable
parallel safe
as $$
  select coalesce(
    (p_read - p_cached)::numeric * p_input_price + p_cached::numeric * p_cached_price
      + p_written::numeric * p_output_price,
    0)
$$;
comment on function secretaria_reference._price(bigint, bigint, bigint, bigint, bigint, bigint) is
  'Immutable; no locks. What tokens cost at prices per million, exact: a millionth of the prices'' unit. 0 without
prices.';

create or replace function secretaria_reference._sum_up(
  p_companies bigint[],
  p_facts text[],
  p_models text[],
  p_days date[],
  p_amounts bigint[],
  p_read bigint[],
  p_written bigint[],
  p_cached bigint[]
)
returns void
language plpgsql
set jit = off
as $$
begin
  insert into secretaria.usage_totals as t (company_id, metric, model, day, amount)
  select b.company, m.metric, b.model, b.day, sum(m.amount)
  from unnest(p_companies, p_facts, p_models, p_days, p_amounts, p_read, p_written, p_cached)
    as b (company, fact, model, day, amount, tokens_in, tokens_out, tokens_cached)
  cross join lateral (values
    (b.fact, case when b.fact = 'model_tokens' then 0 else b.amount end),
    ('tokens_in', b.tokens_in),
    ('tokens_out', b.tokens_out),
    ('tokens_cached', b.tokens_cached)
  ) as m (metric, amount)
  where m.amount > 0
  group by b.company, m.metric, b.model, b.day
  order by b.company, m.metric, b.model, b.day
  on conflict (company_id, metric, model, day) do update
  set amount = t.amount + excluded.amount;
  if not 'model_tokens' = any (p_facts) then
    return;
  end if;
  -- Each call is rounded by itself, so that one by one and in bulk come to the same sum.
  insert into secretaria.ai_usage_by_model as u
    (company_id, month, model, messages, input_tokens, output_tokens, cached_tokens, cost_usd_micros, cost_brl_micros)
  select b.company, date_trunc('month', b.day::timestamp)::date, b.model, count(*), sum(b.tokens_in), sum(b.tokens_out),
    sum(b.tokens_cached), sum(round(cost.exact / 1000000)),
    sum(round(cost.exact * coalesce(p.brl_micros_per_usd, 0) / 1000000000000))
  from unnest(p_companies, p_facts, p_models, p_days, p_read, p_written, p_cached)
    as b (company, fact, model, day, tokens_in, tokens_out, tokens_cached)
  left join (
    select p.*, lead(p.since, 1, 'infinity') over (partition by p.model order by p.since) as until
    from secretaria.ai_model_prices p
  ) p
    on p.model = b.model
    and p.since <= b.day
    and p.until > b.day
  cross join lateral (
    select secretaria_reference._price(
      b.tokens_in, b.tokens_out, b.tokens_cached, p.input_usd_micros, p.output_usd_micros, p.cached_usd_micros) as exact
  ) as cost
  where b.fact = 'model_tokens'
  group by 1, 2, 3
  order by 1, 2, 3
  on conflict (company_id, month, model) do update
  set messages = u.messages + excluded.messages,
    input_tokens = u.input_tokens + excluded.input_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens,
    cached_tokens = u.cached_tokens + excluded.cached_tokens,
    cost_usd_micros = u.cost_usd_micros + excluded.cost_usd_micros,
    cost_brl_micros = u.cost_brl_micros + excluded.cost_brl_micros;
end
$$;
comment on function secretaria_reference._sum_up(
  bigint[], text[], text[], date[], bigint[], bigint[], bigint[], bigint[]) is
  'Volatile; locks daily totals, then monthly sums, each in key order. Adds booked facts to both, tokens with the price
of their day. 22003 overflow.';

create or replace function secretaria_reference.record_message_facts_bulk(
  company_ids bigint[],
  facts text[],
  idempotency_keys text[],
  occurred_at timestamptz[]
)
returns table (ord integer, accepted boolean, reason text, duplicate boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  refused text[];
  features text[];
  fresh integer[];
begin
  perform secretaria_reference._authorise(0, 'manage');
  perform secretaria_reference._same_length(
    cardinality(company_ids), cardinality(facts), cardinality(idempotency_keys), cardinality(occurred_at));
  select
    array_agg(f.feature order by a.ord),
    array_agg(
      case
        when a.company is null or a.fact is null or a.key is null or a.at is null then 'invalid_argument'
        when a.fact not in ('message_in', 'message_out') or length(a.key) not between 1 and 255 then 'invalid_argument'
        when not isfinite(a.at) then 'invalid_time'
      end order by a.ord)
  into features, refused
  from unnest(company_ids, facts, idempotency_keys, occurred_at) with ordinality as a (company, fact, key, at, ord)
  left join secretaria.features_catalog f
    on f.fact = a.fact;
  perform secretaria_reference._prepare_bulk(company_ids, features, at, false);
  select r.fresh
  into fresh
  from secretaria_reference._record(
    company_ids, features, facts, null, array_fill(1::bigint, array[cardinality(facts)]), null, null, null,
    idempotency_keys, facts, occurred_at, refused, at) r;
  return query
  select r.ord, r.accepted, r.reason, r.duplicate
  from secretaria_reference._answers(company_ids, idempotency_keys, facts, refused, fresh) r;
end
$$;
comment on function secretaria_reference.record_message_facts_bulk(bigint[], text[], text[], timestamptz[]) is
  'Volatile; locks ledger lines, counters and totals until the transaction ends, each in key order. Records messages
(message_in, message_out), one answer an item: ok, duplicate, key_conflict, invalid_argument, invalid_time. What was
used is recorded even beyond the limit. Needs manage. 22004 a null array, 22023 unequal lengths, 40001 and 40P01 to be
tried again.';

create or replace function secretaria_reference.increment_ai_usage_bulk(
  company_ids bigint[],
  models text[],
  input bigint[],
  output bigint[],
  cached bigint[],
  idempotency_keys text[],
  occurred_at timestamptz[]
)
returns table (ord integer, accepted boolean, reason text, duplicate boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  feature text := (select f.feature from secretaria.features_catalog f where f.fact = 'model_tokens');
  items integer;
  amounts bigint[];
  payloads text[];
  refused text[];
  features text[];
  fresh integer[];
begin
  perform secretaria_reference._authorise(0, 'manage');
  items := secretaria_reference._same_length(
    cardinality(company_ids), cardinality(models), cardinality(input), cardinality(output), cardinality(cached),
    cardinality(idempotency_keys), cardinality(occurred_at));
  select
    array_agg(case when a.input between 0 and 100000000000000 and a.output between 0 and 100000000000000
      then a.input + a.output end order by a.ord),
    array_agg(secretaria_reference._tokens_payload(a.model, a.input, a.output, a.cached) order by a.ord),
    array_agg(
      case
        when a.company is null or a.model is null or a.key is null or a.at is null or a.input is null
          or a.output is null or a.cached is null or length(a.key) not between 1 and 255
          or length(a.model) > 255 then 'invalid_argument'
        when a.input < 0 or a.output < 0 or a.cached not between 0 and a.input then 'invalid_amount'
        when a.input > 100000000000000 or a.output > 100000000000000 then 'overflow'
        when not isfinite(a.at) then 'invalid_time'
      end order by a.ord)
  into amounts, payloads, refused
  from unnest(company_ids, models, input, output, cached, idempotency_keys, occurred_at) with ordinality
    as a (company, model, input, output, cached, key, at, ord);
  features := array_fill(feature, array[items]);
  perform secretaria_reference._prepare_bulk(company_ids, features, at, false);
  select r.fresh
  into fresh
  from secretaria_reference._record(
    company_ids, features, array_fill('model_tokens'::text, array[items]), models, amounts, input, output, cached,
    idempotency_keys, payloads, occurred_at, refused, at) r;
  return query
  select r.ord, r.accepted, r.reason, r.duplicate
  from secretaria_reference._answers(company_ids, idempotency_keys, payloads, refused, fresh) r;
end
$$;
comment on function secretaria_reference.increment_ai_usage_bulk(
  bigint[], text[], bigint[], bigint[], bigint[], text[], timestamptz[]) is
  'Volatile; locks ledger lines, counters, totals and monthly sums until the transaction ends, each in key order.
Records model calls (cached tokens are part of the input), one answer an item: ok, duplicate, key_conflict,
invalid_argument, invalid_amount, invalid_time, overflow (above 10^14). Needs manage. 22004 a null array, 22023 unequal
lengths, 40001 and 40P01 to be tried again.';
