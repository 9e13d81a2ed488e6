-- Companies with ready jobs, after the given one, at most $3: one index probe for each pair of company and queue.
with recursive pairs as (
  (select company_id, queue
   from secretaria.jobs_ready
   where (company_id, queue) > ($2, $1)
   order by company_id, queue
   limit 1)
  union all
  select next.company_id, next.queue
  from pairs
  cross join lateral (
    select r.company_id, r.queue
    from secretaria.jobs_ready r
    where (r.company_id, r.queue) > (pairs.company_id, pairs.queue)
    order by r.company_id, r.queue
    limit 1
  ) next
)
select company_id
from (select company_id, queue from pairs limit 4 * $3::bigint) seen
where queue = $1
limit $3::bigint
