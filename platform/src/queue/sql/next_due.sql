-- Seconds until the next scheduled job is due; below zero if it is due already.
select extract(epoch from due_at - clock_timestamp())::float8
from secretaria.jobs_scheduled
where queue = $1
order by due_at
limit 1
