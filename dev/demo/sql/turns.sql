-- The turns of company $1 that the messages $2 are in, in the order of the conversation.
select t.conversation_id, coalesce(t.outcome, 'open') as outcome, coalesce(r.body, '') as text,
  count(*) as messages,
  coalesce((
    select string_agg(coalesce(a.result, 'under way') || coalesce(' (' || a.class || ')', ''), ', ' order by a.attempt)
    from secretaria.delivery_attempts a
    where a.company_id = t.company_id and a.delivery_id = t.reply_id), 'none') as attempts
from secretaria.messages m
join secretaria.turns t using (company_id, turn_id)
left join secretaria.messages r on r.company_id = t.company_id and r.message_id = t.reply_id
where m.company_id = $1
  and m.message_id = any($2)
group by t.company_id, t.turn_id, r.body
order by min(m.position);
