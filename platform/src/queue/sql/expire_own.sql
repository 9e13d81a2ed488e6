-- Expires the leases of a previous run of this instance at once: the outcome of its calls is unknown.
update secretaria.jobs_running
set lease_until = now() - interval '1 second'
where queue = $1 and claimed_by = $2
