-- Leases of a previous run of this instance run out at once: what its calls came to is unknown.
update secretaria.jobs_running
set lease_until = now() - interval '1 second'
where queue = $1 and claimed_by = $2
