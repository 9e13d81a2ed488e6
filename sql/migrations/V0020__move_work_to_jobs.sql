-- Turns, deliveries and webhooks keep what they are; when and by whom they are worked on is the job queue's business.
-- Processors of earlier releases work from the old columns and must be stopped: `secretaria migrate` looks for heartbeats.
set local role secretaria_owner;

-- Nothing may be added between what is read here and the end of the columns: a row that came too late would have no job.
set local lock_timeout = '30s';
lock table secretaria.turns, secretaria.deliveries, secretaria.webhook_deliveries in access exclusive mode;

-- What was under way becomes a lease that has run out: the first worker settles it, as it did after a crash.
with answering as (
  select company_id, conversation_id, turn_id, due_at, claims, traceparent
  from secretaria.turns
  where state = 'answering'
), bodies as (
  insert into secretaria.jobs (company_id, queue, job_key, lane, due_at, traceparent)
  select company_id, 'reply', turn_id, conversation_id, due_at, traceparent
  from answering
), lanes as (
  insert into secretaria.job_lanes (company_id, queue, lane, jobs, last_position)
  select company_id, 'reply', conversation_id, 1, 1
  from answering
)
insert into secretaria.jobs_running
  (company_id, queue, job_key, fence, lane, priority, due_at, attempts, claimed_by, lease_until)
select company_id, 'reply', turn_id, nextval('secretaria.job_fences'), conversation_id, 0, due_at, greatest(claims, 1),
  'a release before the job queue', now() - interval '1 second'
from answering;

with collecting as (
  select company_id, conversation_id, turn_id, due_at, traceparent
  from secretaria.turns
  where state = 'collecting'
), bodies as (
  insert into secretaria.jobs (company_id, queue, job_key, lane, due_at, traceparent)
  select company_id, 'reply', turn_id, conversation_id, due_at, traceparent
  from collecting
)
insert into secretaria.jobs_scheduled (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts)
select 'reply', due_at, company_id, turn_id, conversation_id, false, 0, 0
from collecting;

-- Deliveries keep their order: the first of a conversation holds its lane, the others wait behind it. Two may be under
-- way, where an earlier message was replayed while a later one was being sent: both attempts must be settled before
-- another is made, so the second is outside the lane.
with open as materialized (
  select company_id, conversation_id, delivery_id, due_at, attempts, traceparent, is_running,
    case when not (is_running and place > 1) then conversation_id end as lane,
    row_number() over (
      partition by company_id, conversation_id, is_running and place > 1
      order by place
    ) as nth,
    count(*) over (partition by company_id, conversation_id, is_running and place > 1) as of_lane
  from (
    select company_id, conversation_id, delivery_id, due_at, attempts - round_began_at as attempts, traceparent,
      state = 'sending' as is_running,
      row_number() over (
        partition by company_id, conversation_id
        order by (state = 'sending') desc, position, delivery_id
      ) as place
    from secretaria.deliveries
    where state <> 'ended'
  ) d
), bodies as (
  insert into secretaria.jobs (company_id, queue, job_key, lane, due_at, traceparent)
  select company_id, 'delivery', delivery_id, lane, due_at, traceparent
  from open
), lanes as (
  insert into secretaria.job_lanes (company_id, queue, lane, jobs, last_position)
  select company_id, 'delivery', lane, of_lane, of_lane
  from open
  where lane is not null and nth = 1
), heads as (
  insert into secretaria.jobs_scheduled (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts)
  select 'delivery', due_at, company_id, delivery_id, lane, true, 0, attempts
  from open
  where not is_running and nth = 1
), running as (
  insert into secretaria.jobs_running
    (company_id, queue, job_key, fence, lane, priority, due_at, attempts, claimed_by, lease_until)
  select company_id, 'delivery', delivery_id, nextval('secretaria.job_fences'), lane, 0, due_at,
    greatest(attempts, 1), 'a release before the job queue', now() - interval '1 second'
  from open
  where is_running
)
insert into secretaria.jobs_waiting (company_id, queue, lane, position, job_key, priority, due_at)
select company_id, 'delivery', lane, nth, delivery_id, 0, due_at
from open
where not is_running and nth > 1;

-- The key of a webhook's job is its event's id, with the last bit set for the operator's.
with open as materialized (
  select company_id, event_id, endpoint, state, due_at, attempts - round_began_at as attempts,
    case endpoint
      when 'company' then event_id
      else encode(set_byte(uuid_send(event_id), 15, get_byte(uuid_send(event_id), 15) # 1), 'hex')::uuid
    end as job_key
  from secretaria.webhook_deliveries
  where state <> 'ended'
), bodies as (
  insert into secretaria.jobs (company_id, queue, job_key, due_at, body)
  select company_id, 'alerts', job_key, due_at, jsonb_build_object('event', event_id, 'endpoint', endpoint)
  from open
), scheduled as (
  insert into secretaria.jobs_scheduled (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts)
  select 'alerts', due_at, company_id, job_key, null, false, 0, attempts
  from open
  where state = 'waiting'
)
insert into secretaria.jobs_running
  (company_id, queue, job_key, fence, lane, priority, due_at, attempts, claimed_by, lease_until)
select company_id, 'alerts', job_key, nextval('secretaria.job_fences'), null, 0, due_at, greatest(attempts, 1),
  'a release before the job queue', now() - interval '1 second'
from open
where state = 'calling';

-- Indexes and checks on these columns go with them.
alter table secretaria.turns
drop column due_at,
drop column claimed_by,
drop column lease_until;
alter table secretaria.deliveries
drop column due_at,
drop column claimed_by,
drop column lease_until;
alter table secretaria.webhook_deliveries
drop column due_at,
drop column claimed_by,
drop column lease_until;
drop index secretaria.deliveries_heads;

reset role;
