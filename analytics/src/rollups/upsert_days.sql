-- Inserts days of companies, or updates those whose numbers are other than before; returns the ones that it wrote.
insert into secretaria.rollup_days as d
  (company_id, day,
    events, messages_received, messages_in, messages_out, tokens_in, tokens_out, tokens_cached, model_calls,
    cost_usd_micros, cost_brl_micros, turns, turns_replied, deliveries, deliveries_sent, answers, answer_ms_sum,
    answer_p50_ms, answer_p95_ms, answer_p99_ms, answer_buckets, answer_counts, active_contacts, contact_hashes)
select company_id, day,
  events, messages_received, messages_in, messages_out, tokens_in, tokens_out, tokens_cached, model_calls,
  cost_usd_micros, cost_brl_micros, turns, turns_replied, deliveries, deliveries_sent, answers, answer_ms_sum,
  answer_p50_ms, answer_p95_ms, answer_p99_ms, answer_buckets, answer_counts, active_contacts, contact_hashes
from jsonb_populate_recordset(null::secretaria.rollup_days, $1)
on conflict (company_id, day) do update
set version = d.version + 1,
  computed_at = now(),
  events = excluded.events,
  messages_received = excluded.messages_received,
  messages_in = excluded.messages_in,
  messages_out = excluded.messages_out,
  tokens_in = excluded.tokens_in,
  tokens_out = excluded.tokens_out,
  tokens_cached = excluded.tokens_cached,
  model_calls = excluded.model_calls,
  cost_usd_micros = excluded.cost_usd_micros,
  cost_brl_micros = excluded.cost_brl_micros,
  turns = excluded.turns,
  turns_replied = excluded.turns_replied,
  deliveries = excluded.deliveries,
  deliveries_sent = excluded.deliveries_sent,
  answers = excluded.answers,
  answer_ms_sum = excluded.answer_ms_sum,
  answer_p50_ms = excluded.answer_p50_ms,
  answer_p95_ms = excluded.answer_p95_ms,
  answer_p99_ms = excluded.answer_p99_ms,
  answer_buckets = excluded.answer_buckets,
  answer_counts = excluded.answer_counts,
  active_contacts = excluded.active_contacts,
  contact_hashes = excluded.contact_hashes
where (
    d.events, d.messages_received, d.messages_in, d.messages_out, d.tokens_in, d.tokens_out, d.tokens_cached,
    d.model_calls, d.cost_usd_micros, d.cost_brl_micros, d.turns, d.turns_replied, d.deliveries, d.deliveries_sent,
    d.answers, d.answer_ms_sum, d.answer_p50_ms, d.answer_p95_ms, d.answer_p99_ms, d.answer_buckets, d.answer_counts,
    d.active_contacts, d.contact_hashes
  ) is distinct from (
    excluded.events, excluded.messages_received, excluded.messages_in, excluded.messages_out, excluded.tokens_in,
    excluded.tokens_out, excluded.tokens_cached, excluded.model_calls, excluded.cost_usd_micros,
    excluded.cost_brl_micros, excluded.turns, excluded.turns_replied, excluded.deliveries, excluded.deliveries_sent,
    excluded.answers, excluded.answer_ms_sum, excluded.answer_p50_ms, excluded.answer_p95_ms, excluded.answer_p99_ms,
    excluded.answer_buckets, excluded.answer_counts, excluded.active_contacts, excluded.contact_hashes
  )
returning company_id, day
