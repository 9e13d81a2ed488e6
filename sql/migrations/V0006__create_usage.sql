-- What was used: a ledger where every fact is booked once, and its sums.
set local role secretaria_owner;

create table secretaria.usage_events (
  company_id bigint not null,
  idempotency_key text not null,
  fact text not null check (fact in ('message_in', 'message_out', 'model_tokens')),
  model text not null default '',
  amount bigint not null check (amount >= 0),
  tokens_in bigint not null default 0 check (tokens_in >= 0),
  tokens_out bigint not null default 0 check (tokens_out >= 0),
  tokens_cached bigint not null default 0 check (tokens_cached >= 0),
  occurred_at timestamptz not null,
  day date not null,
  recorded_at timestamptz not null default now(),
  primary key (company_id, idempotency_key)
) partition by hash (company_id);
do $$
begin
  for remainder in 0..7
  loop
    execute format(
      'create table secretaria.usage_events_%s partition of secretaria.usage_events
       for values with (modulus 8, remainder %s)', remainder, remainder);
  end loop;
end
$$;
comment on column secretaria.usage_events.day is 'The day it happened, in the company''s time zone.';

create table secretaria.usage_totals (
  company_id bigint not null,
  metric text not null check (metric in ('message_in', 'message_out', 'tokens_in', 'tokens_out', 'tokens_cached')),
  model text not null default '',
  day date not null,
  amount bigint not null default 0,
  primary key (company_id, metric, model, day)
) with (fillfactor = 80);

reset role;
