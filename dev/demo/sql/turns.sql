-- What has become of the messages $2 of company $1: their turns in the order of the conversation, as facts by name.
with turns as (
  select t.company_id, t.conversation_id, t.outcome, t.reply_id, r.body, count(*) as messages,
    row_number() over (order by min(m.position)) as n
  from secretaria.messages m
  join secretaria.turns t using (company_id, turn_id)
  left join secretaria.messages r on r.company_id = t.company_id and r.message_id = t.reply_id
  where m.company_id = $1
    and m.message_id = any($2)
  group by t.company_id, t.turn_id, r.body
), attempts as (
  select n, string_agg(coalesce(a.result, 'under way') || coalesce(' (' || a.class || ')', ''), ', '
    order by a.attempt) as attempts
  from turns t
  join secretaria.delivery_attempts a on a.company_id = t.company_id and a.delivery_id = t.reply_id
  group by n
)
select 'turns' as name, count(*)::text as value
from turns
union all
select 'conversations', count(distinct conversation_id)::text
from turns
union all
select 'conversation ids', coalesce(string_agg(distinct conversation_id::text, ' '), '')
from turns
union all
select format('turn %s: messages answered together', n), messages::text
from turns
union all
select format('turn %s: outcome', n), coalesce(outcome, 'open')
from turns
union all
select format('turn %s: text', n), body
from turns
where outcome = 'fallback'
union all
select format('turn %s: attempts', n), attempts
from attempts;
