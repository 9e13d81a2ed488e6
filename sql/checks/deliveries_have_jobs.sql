-- A delivery has a job until it has ended.
-- Either a live one or one that is dead and waits for an operator. A live one is of a delivery that has not ended.
select 'a delivery has a job until it has ended' as rule,
  format('company %s delivery %s: %s', company_id, delivery_id,
    case when j.is_live then 'ended or missing, and has a job' else 'no job' end) as detail
from (
  select company_id, delivery_id
  from secretaria.deliveries
  where state <> 'ended'
) open
full join (
  select company_id, job_key as delivery_id, true as is_live from secretaria.jobs where queue = 'delivery'
  union all
  select company_id, job_key, false from secretaria.jobs_dead where queue = 'delivery'
) j using (company_id, delivery_id)
where j.is_live is null or open.delivery_id is null and j.is_live;
