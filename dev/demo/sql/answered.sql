-- How far the answers to the messages $2 of company $1 are.
select count(*) filter (where t.state is null) as unread,
  count(*) filter (where t.state <> 'ended') as unanswered,
  count(*) filter (where t.state = 'ended' and d.state is distinct from 'ended') as undelivered
from unnest($2::uuid[]) as wanted (id)
left join secretaria.messages m on m.company_id = $1 and m.message_id = wanted.id
left join secretaria.turns t on t.company_id = m.company_id and t.turn_id = m.turn_id
left join secretaria.deliveries d on d.company_id = t.company_id and d.delivery_id = t.reply_id;
