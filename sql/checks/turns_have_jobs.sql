-- A turn has a job until it has ended.
-- Either a live one or one that is dead and waits for an operator. A live one is of a turn that has not ended.
select 'a turn has a job until it has ended' as rule,
  format('company %s turn %s: %s', company_id, turn_id,
    case when j.is_live then 'ended or missing, and has a job' else 'no job' end) as detail
from (
  select company_id, turn_id
  from secretaria.turns
  where state <> 'ended'
) open
full join (
  select company_id, job_key as turn_id, true as is_live from secretaria.jobs where queue = 'reply'
  union all
  select company_id, job_key, false from secretaria.jobs_dead where queue = 'reply'
) j using (company_id, turn_id)
where j.is_live is null or open.turn_id is null and j.is_live;
