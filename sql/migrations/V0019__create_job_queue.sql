-- Slow and timed work is a job. A job's state is the narrow table it is in, so that a claim costs what it claims.
set local role secretaria_owner;

create table secretaria.jobs (
  company_id bigint not null,
  queue text not null,
  job_key uuid not null,
  lane uuid,
  priority smallint not null default 0,
  due_at timestamptz not null,
  body jsonb not null default '{}',
  traceparent text,
  created_at timestamptz not null default now(),
  primary key (company_id, queue, job_key)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
comment on table secretaria.jobs is
  'Every live job once, with its body; at most one per key. A row here has exactly one row in jobs_scheduled, jobs_ready,
jobs_waiting or jobs_running. It is deleted in the transaction that ends the job: history is in the rows of its domain.';
comment on column secretaria.jobs.due_at is
  'The instant of its next attempt: part of the key of the row in jobs_scheduled or jobs_ready.';

create table secretaria.jobs_scheduled (
  queue text not null,
  due_at timestamptz not null,
  company_id bigint not null,
  job_key uuid not null,
  lane uuid,
  keeps_lane boolean not null,
  priority smallint not null,
  attempts integer not null,
  first_due_at timestamptz,
  primary key (queue, due_at, company_id, job_key)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
comment on table secretaria.jobs_scheduled is
  'Jobs that are due later. One that waits for a retry keeps its lane, so nothing overtakes it; one that waits for its
first instant holds none yet. The key begins with the queue and the instant, because promotion reads by them.';
comment on column secretaria.jobs_scheduled.first_due_at is
  'Of a job that was held back: since when its attempt could have been made. It is due as of then again when it is ready.';

create table secretaria.jobs_ready (
  company_id bigint not null,
  queue text not null,
  priority smallint not null,
  due_at timestamptz not null,
  job_key uuid not null,
  lane uuid,
  attempts integer not null,
  primary key (company_id, queue, priority, due_at, job_key)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
        vacuum_truncate = false);
comment on table secretaria.jobs_ready is
  'Jobs that are due and first of their lane: all that a claim looks at.';

create table secretaria.job_lanes (
  company_id bigint not null,
  queue text not null,
  lane uuid not null,
  jobs integer not null check (jobs > 0),
  last_position bigint not null,
  primary key (company_id, queue, lane)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);
comment on table secretaria.job_lanes is
  'A lane runs one job at a time, in the order in which they were enqueued. A lane without jobs has no row. Lanes are
locked last in a transaction, in the order of the key.';

create table secretaria.jobs_waiting (
  company_id bigint not null,
  queue text not null,
  lane uuid not null,
  position bigint not null,
  job_key uuid not null,
  priority smallint not null,
  due_at timestamptz not null,
  primary key (company_id, queue, lane, position)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on table secretaria.jobs_waiting is 'Jobs that are due, behind another one of their lane.';

create table secretaria.jobs_running (
  company_id bigint not null,
  queue text not null,
  job_key uuid not null,
  fence bigint not null,
  lane uuid,
  priority smallint not null,
  due_at timestamptz not null,
  attempts integer not null,
  claimed_by text not null,
  claimed_at timestamptz not null default now(),
  lease_until timestamptz not null,
  cancel_requested boolean not null default false,
  progress_permille smallint check (progress_permille between 0 and 1000),
  primary key (company_id, queue, job_key)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);
comment on table secretaria.jobs_running is
  'Leases. What a company has in flight is counted from these rows, never stored. A result counts only while the row with
its fence is there. lease_until has no index, so that renewing is a heap-only update.';

create sequence secretaria.job_fences;

create table secretaria.jobs_dead (
  company_id bigint not null,
  queue text not null,
  job_key uuid not null,
  lane uuid,
  body jsonb not null,
  traceparent text,
  attempts integer not null,
  cause text not null,
  detail text not null,
  died_at timestamptz not null default now(),
  primary key (company_id, queue, job_key)
);
comment on table secretaria.jobs_dead is
  'Jobs given up that no dead letter stands for. A person enqueues one again or drops it.';

create table secretaria.queue_limits (
  company_id bigint not null,
  queue text not null,
  weight real not null default 1 check (weight between 0.01 and 100),
  max_running integer check (max_running >= 0),
  primary key (company_id, queue)
);
comment on table secretaria.queue_limits is
  'Exceptions for single companies: their share of the slots beside others, and how many jobs may run at once.';

create table secretaria.queue_pauses (
  company_id bigint not null,
  queue text not null,
  paused_at timestamptz not null default now(),
  paused_by text not null,
  primary key (company_id, queue)
);
comment on table secretaria.queue_pauses is
  'Nothing of these is claimed. Company 0 stands for the whole queue.';

create table secretaria.periodic_jobs (
  queue text not null,
  name text not null,
  tick_at timestamptz not null,
  primary key (queue, name)
);
comment on table secretaria.periodic_jobs is
  'The latest tick of each periodic job: the process that moves it on enqueues the job, in the same transaction.';

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array[
    'jobs', 'jobs_scheduled', 'jobs_ready', 'job_lanes', 'jobs_waiting', 'jobs_running', 'jobs_dead', 'queue_limits',
    'queue_pauses'
  ]
  loop
    execute format('alter table secretaria.%I enable row level security', tenant_table);
    execute format('alter table secretaria.%I force row level security', tenant_table);
    execute format('create policy owner_all on secretaria.%I to secretaria_owner using (true)', tenant_table);
    execute format(
      'create policy service_all on secretaria.%I to secretaria_service using (true) with check (true)', tenant_table);
    execute format(
      'create policy operator_all on secretaria.%I to secretaria_operator using (true) with check (true)', tenant_table);
    execute format('grant select, insert, update, delete on secretaria.%I to secretaria_service', tenant_table);
    execute format('grant select, insert, update, delete on secretaria.%I to secretaria_operator', tenant_table);
  end loop;
end
$$;

grant select, insert, update, delete
on secretaria.periodic_jobs
to secretaria_service;
grant select
on secretaria.periodic_jobs
to secretaria_operator;
grant usage
on sequence secretaria.job_fences
to secretaria_service, secretaria_operator;

reset role;
