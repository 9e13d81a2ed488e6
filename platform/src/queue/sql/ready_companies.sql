-- Companies with ready jobs, after the given one: one index probe for each of at most $3 pairs of company and queue. The
-- last pair is among the rows, whatever its queue, so that the next sweep can continue after it.
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
select company_id, queue = $1, pairs = $3::bigint, company_id - (queue < $1)::integer
from (
  select company_id, queue, row_number() over () as ord, count(*) over () as pairs
  from (select company_id, queue from pairs limit $3::bigint) probed
) seen
where queue = $1 or ord = pairs
order by ord
