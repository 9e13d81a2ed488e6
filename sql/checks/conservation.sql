-- Rows come back only when something vanished or was doubled: each names the law that was broken.
-- It may be run at any time: what is on its way is allowed for. What must have followed something is looked for a
-- minute later.
with read as (
  select o.processor, o.topic, o.partition, o.next_offset - o.first_offset as moved, o.next_offset, o.first_offset,
    coalesce(c.records, 0) as records, coalesce(c.fresh, 0) as fresh
  from secretaria.consumer_offsets o
  left join (
    select processor, topic, partition, sum(records)::bigint as records, sum(fresh)::bigint as fresh
    from secretaria.intake_counts
    group by processor, topic, partition
  ) c using (processor, topic, partition)
), marks as (
  -- A processor has marks, or ranges that count in their stead.
  select processor, topic, partition, sum(marks)::bigint as marks
  from (
    select processor, topic, partition, count(*)::bigint as marks
    from secretaria.event_marks
    group by processor, topic, partition
    union all
    select processor, topic, partition, done + ignored + parked
    from secretaria.event_ranges
  ) each
  group by processor, topic, partition
)
select 'every offset passed is a record counted' as law,
  format('%s %s/%s: passed %s, counted %s', processor, topic, partition, moved, records) as detail
from read
where moved <> records

union all
select 'every fresh record has a mark',
  format('%s %s/%s: fresh %s, marks %s', r.processor, r.topic, r.partition, r.fresh, coalesce(m.marks, 0))
from read r
left join marks m using (processor, topic, partition)
where r.fresh <> coalesce(m.marks, 0)

union all
select 'a range counts every offset it spans',
  format('%s %s/%s: range %s to %s counts %s', processor, topic, partition, first_offset, last_offset,
    done + ignored + parked)
from secretaria.event_ranges
where done + ignored + parked <> last_offset - first_offset + 1

union all
select 'ranges follow one another up to where reading stands',
  format('%s %s/%s: a range begins at %s, due was %s', processor, topic, partition, first_offset, due)
from (
  select r.processor, r.topic, r.partition, g.first_offset,
    coalesce(lag(g.last_offset + 1) over ranges, r.first_offset) as due
  from read r
  join (
    select processor, topic, partition, first_offset, last_offset from secretaria.event_ranges
    union all
    -- Where the next one will begin.
    select o.processor, o.topic, o.partition, o.next_offset, o.next_offset
    from secretaria.consumer_offsets o
    where exists (select from secretaria.event_ranges g where g.processor = o.processor)
  ) g using (processor, topic, partition)
  window ranges as (partition by r.processor, r.topic, r.partition order by g.first_offset)
) each
where first_offset <> due

union all
select 'nothing is read that the broker does not hold',
  format('%s %s/%s: read up to %s, log ended at %s', r.processor, r.topic, r.partition, r.next_offset, e.end_offset)
from read r
join secretaria.topic_ends e using (topic, partition)
join secretaria.consumer_offsets o using (processor, topic, partition)
where r.next_offset > e.end_offset and o.moved_at < e.seen_at

union all
select 'nothing is dropped by the broker before it is read',
  format('%s %s/%s: begun at %s, log began at %s', r.processor, r.topic, r.partition, r.next_offset, e.start_offset)
from read r
join secretaria.topic_ends e using (topic, partition)
where e.start_offset > r.next_offset

union all
select 'a message in flight is in a turn that has not ended',
  format('company %s event %s', m.company_id, m.event_id)
from secretaria.event_marks m
left join secretaria.messages g on g.company_id = m.company_id and g.message_id = m.event_id
left join secretaria.turns t on t.company_id = g.company_id and t.turn_id = g.turn_id
where m.processor = 'reply' and m.state = 'in_flight' and (t.turn_id is null or t.state = 'ended')

union all
select 'a message done is in a turn that has ended',
  format('company %s event %s', m.company_id, m.event_id)
from secretaria.event_marks m
left join secretaria.messages g on g.company_id = m.company_id and g.message_id = m.event_id
left join secretaria.turns t on t.company_id = g.company_id and t.turn_id = g.turn_id
where m.processor = 'reply' and m.state = 'done' and (t.turn_id is null or t.state <> 'ended')

union all
select 'a turn that spoke has one message, and it was handed on',
  format('company %s turn %s: %s messages', t.company_id, t.turn_id, count(g.message_id))
from secretaria.turns t
left join secretaria.messages g on g.company_id = t.company_id and g.turn_id = t.turn_id and g.direction = 'out'
left join secretaria.event_marks m
  on m.company_id = g.company_id and m.processor = 'delivery' and m.event_id = g.message_id
left join secretaria.outbox o on o.company_id = g.company_id and o.event_id = g.message_id
where t.state = 'ended' and t.outcome in ('replied', 'fallback')
group by t.company_id, t.turn_id
having count(distinct g.message_id) <> 1
  or (bool_or(m.event_id is null and o.event_id is null)
      and not exists (
        select from secretaria.topic_ends e
        left join secretaria.consumer_offsets c
          on c.processor = 'delivery' and c.topic = e.topic and c.partition = e.partition
        where e.topic = 'outbound.messages' and e.end_offset > coalesce(c.next_offset, e.start_offset))
      and max(t.ended_at) < (select min(seen_at) from secretaria.topic_ends where topic = 'outbound.messages')
                            - interval '1 minute')

union all
select 'a turn that spoke is booked',
  format('company %s: %s turns spoke, %s are booked', t.company_id, t.spoke, coalesce(u.booked, 0))
from (
  select company_id, count(*) as spoke
  from secretaria.turns
  where outcome in ('replied', 'fallback')
    and ended_at < (select min(seen_at) from secretaria.topic_ends where topic = 'usage.events') - interval '1 minute'
  group by company_id
) t
left join (
  select company_id, count(*) as booked
  from secretaria.usage_events
  where fact = 'message_out'
  group by company_id
) u using (company_id)
where coalesce(u.booked, 0) < t.spoke
  and not exists (
    select from secretaria.outbox o where o.company_id = t.company_id and o.topic = 'usage.events')
  and not exists (
    select from secretaria.dead_letters l where l.company_id = t.company_id and l.topic = 'usage.events')
  and not exists (
    select from secretaria.topic_ends e
    left join secretaria.consumer_offsets c
      on c.processor = 'metering' and c.topic = e.topic and c.partition = e.partition
    where e.topic = 'usage.events' and e.end_offset > coalesce(c.next_offset, e.start_offset))

union all
select 'a delivery in flight is a row that has not ended',
  format('company %s delivery %s', m.company_id, m.event_id)
from secretaria.event_marks m
left join secretaria.deliveries d on d.company_id = m.company_id and d.delivery_id = m.event_id
where m.processor = 'delivery' and m.state = 'in_flight' and (d.delivery_id is null or d.state = 'ended')

union all
select 'a delivery done was sent, one given up is parked',
  format('company %s delivery %s: mark %s, outcome %s', m.company_id, m.event_id, m.state, d.outcome)
from secretaria.event_marks m
left join secretaria.deliveries d on d.company_id = m.company_id and d.delivery_id = m.event_id
where m.processor = 'delivery'
  and ((m.state = 'done') <> (d.outcome is not distinct from 'sent')
       or (m.state = 'parked') <> (d.outcome is not distinct from 'failed_permanent') and d.delivery_id is not null)

union all
select 'an alert in flight has a webhook that has not ended',
  format('company %s event %s', m.company_id, m.event_id)
from secretaria.event_marks m
where m.processor = 'alerts'
  and m.state = 'in_flight'
  and not exists (
    select from secretaria.webhook_deliveries d
    where d.company_id = m.company_id and d.event_id = m.event_id and d.state <> 'ended')

union all
select 'an alert done was delivered, one given up is parked',
  format('company %s event %s: mark %s, outcomes %s', d.company_id, d.event_id, m.state, d.outcomes)
from (
  select company_id, event_id, string_agg(coalesce(outcome, 'none'), ' ' order by endpoint) as outcomes,
    case
      when not bool_and(state = 'ended') then 'in_flight'
      when bool_or(outcome = 'failed_permanent') then 'parked'
      when bool_or(outcome = 'delivered') then 'done'
      else 'ignored'
    end as due_state
  from secretaria.webhook_deliveries
  group by company_id, event_id
) d
full join (
  select company_id, event_id, state from secretaria.event_marks where processor = 'alerts'
) m using (company_id, event_id)
where case
    when d.event_id is null then m.state = 'done'
    else m.state is distinct from d.due_state
  end

union all
select 'whatever is parked is on the shelf',
  format('company %s %s event %s', m.company_id, m.processor, m.event_id)
from secretaria.event_marks m
left join secretaria.dead_letters l
  on l.company_id = m.company_id and l.processor = m.processor and l.event_id = m.event_id
where m.state = 'parked' and l.event_id is null

union all
select 'a second send follows only an attempt that failed for a time or is unknown',
  format('company %s delivery %s attempt %s follows %s', a.company_id, a.delivery_id, a.attempt, b.result)
from secretaria.delivery_attempts a
join secretaria.delivery_attempts b
  on b.company_id = a.company_id and b.delivery_id = a.delivery_id and b.attempt = a.attempt - 1
where b.result is distinct from 'FAILED_TEMPORARY' and b.result is distinct from 'UNKNOWN' and a.of_round > 1

union all
select 'the sums of usage are the ledger''s',
  format('company %s %s %s %s: ledger %s, sum %s', coalesce(l.company_id, t.company_id), coalesce(l.metric, t.metric),
    coalesce(l.model, t.model), coalesce(l.day, t.day), coalesce(l.amount, 0), coalesce(t.amount, 0))
from (
  select u.company_id, m.metric, u.model, u.day, sum(m.amount)::bigint as amount
  from secretaria.usage_events u
  cross join lateral (values
    (u.fact, case when u.fact = 'model_tokens' then 0 else u.amount end),
    ('tokens_in', u.tokens_in),
    ('tokens_out', u.tokens_out),
    ('tokens_cached', u.tokens_cached)
  ) as m (metric, amount)
  where m.metric <> 'model_tokens' and m.amount > 0
  group by u.company_id, m.metric, u.model, u.day
) l
full join secretaria.usage_totals t using (company_id, metric, model, day)
where coalesce(l.amount, 0) <> coalesce(t.amount, 0);
