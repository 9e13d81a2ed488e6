-- Something to show for every company of the contract's database: conversations enough for several pages, messages with
-- every outcome, and usage on two days. Run once, as the superuser.

set search_path to secretaria;

with contact as (
  insert into contacts (company_id, contact_id, channel, name)
  select company_id, gen_random_uuid(), 'whaticket', case n % 2 when 0 then 'Ana' end
  from companies, generate_series(1, 25) as n
  returning company_id, contact_id
), conversation as (
  insert into conversations (company_id, conversation_id, contact_id, channel, send_to, last_message_at)
  select company_id, gen_random_uuid(), contact_id, 'whaticket', '5511999990001@s.whatsapp.net',
    '2026-03-14T12:00:00Z'::timestamptz + interval '1 second' * row_number() over (partition by company_id)
  from contact
  returning company_id, conversation_id, last_message_at
), turn as (
  insert into turns (company_id, turn_id, conversation_id, state, outcome, closes_at)
  select company_id, gen_random_uuid(), conversation_id, 'ended', 'replied', last_message_at
  from conversation
  returning company_id, conversation_id, turn_id, closes_at
), message as (
  insert into messages (company_id, message_id, conversation_id, position, direction, turn_id, body, occurred_at,
    received_at)
  select company_id, gen_random_uuid(), conversation_id, n, case n % 2 when 1 then 'in' else 'out' end, turn_id,
    'Mensagem ' || n, closes_at, closes_at
  from turn, generate_series(1, 4) as n
  returning company_id, message_id, conversation_id, position, direction, body, occurred_at
)
insert into deliveries (company_id, delivery_id, conversation_id, position, channel, send_to, body, purpose, state,
  outcome, attempts, record_partition, record_offset)
select company_id, message_id, conversation_id, position, 'whaticket', '5511999990001@s.whatsapp.net', body, 'reply',
  case position when 2 then 'ended' else 'waiting' end, case position when 2 then 'sent' end, 1, 0, 0
from message
where direction = 'out';

insert into usage_totals (company_id, metric, model, day, amount)
select company_id, metric, case when metric like 'tokens%' then 'gemini-test' else '' end, day, 100
from companies,
  unnest(array['message_in', 'message_out', 'tokens_in', 'tokens_out', 'tokens_cached']) as metric,
  unnest(array['2026-03-01'::date, '2026-03-14']) as day;
