-- The event lake's manifest, the days whose rollups are to be computed, and the rollups themselves.
set local role secretaria_owner;

create table secretaria.lake_files (
  file_id uuid primary key,
  day date not null,
  path text not null unique,
  origin text not null check (origin in ('consumer', 'backfill', 'compaction')),
  events bigint not null check (events > 0),
  bytes bigint not null check (bytes > 0),
  sha256 bytea not null check (octet_length(sha256) = 32),
  companies bigint[] not null,
  company_events bigint[] not null check (cardinality(company_events) = cardinality(companies)),
  batch_id uuid,
  first_at timestamptz not null,
  last_at timestamptz not null check (last_at >= first_at),
  written_at timestamptz not null default now(),
  replaced_at timestamptz,
  deleted_at timestamptz check (deleted_at is null or replaced_at is not null)
);
comment on table secretaria.lake_files is
  'The Parquet files of the event lake: a file that is not here is not read. Each holds events of one UTC day.';
comment on column secretaria.lake_files.company_events is 'How many events it has of each of its companies.';
comment on column secretaria.lake_files.batch_id is 'The batch of records that it was written from.';
comment on column secretaria.lake_files.replaced_at is 'Another file holds its events since; an hour later it is deleted.';
create index lake_files_to_delete on secretaria.lake_files (replaced_at) where deleted_at is null;
create index lake_files_batch on secretaria.lake_files (batch_id);
create index lake_files_day on secretaria.lake_files (day) where replaced_at is null;
create index lake_files_companies on secretaria.lake_files using gin (companies) where replaced_at is null;

create table secretaria.lake_batches (
  batch_id uuid primary key,
  topics text[] not null,
  partitions integer[] not null,
  first_offsets bigint[] not null,
  last_offsets bigint[] not null,
  records bigint not null check (records >= 0),
  repeats bigint not null default 0 check (repeats >= 0),
  written_at timestamptz not null default now()
);
create index lake_batches_written_at on secretaria.lake_batches (written_at);
comment on table secretaria.lake_batches is
  'What the archive read: ranges of offsets. records = events of its files + repeats within the batch.';

create sequence secretaria.rollup_marks;
create table secretaria.rollup_utc_days (
  day date primary key,
  mark bigint not null default nextval('secretaria.rollup_marks'),
  marked_at timestamptz not null default now(),
  computed_mark bigint not null default 0,
  computed_at timestamptz
);
comment on table secretaria.rollup_utc_days is
  'UTC days of the lake. A day is dirty while its mark is above the mark that its rollups were computed for.';
create index rollup_utc_days_dirty on secretaria.rollup_utc_days (day) where computed_mark < mark;

create table secretaria.rollup_parts (
  company_id bigint not null,
  day date not null,
  utc_day date not null,
  part jsonb not null,
  primary key (company_id, day, utc_day)
);
comment on table secretaria.rollup_parts is
  'What the events of one UTC day add to a day of the company: a UTC day that changes is read alone, and its parts are
replaced and added to the others.';
create index rollup_parts_utc_day on secretaria.rollup_parts (utc_day);

create table secretaria.rollup_days (
  company_id bigint not null,
  day date not null,
  version integer not null default 1 check (version > 0),
  computed_at timestamptz not null default now(),
  events bigint not null,
  messages_received bigint not null,
  messages_in bigint not null,
  messages_out bigint not null,
  tokens_in bigint not null,
  tokens_out bigint not null,
  tokens_cached bigint not null,
  model_calls bigint not null,
  cost_usd_micros bigint not null,
  cost_brl_micros bigint not null,
  turns bigint not null,
  turns_replied bigint not null,
  deliveries bigint not null,
  deliveries_sent bigint not null,
  answers bigint not null,
  answer_ms_sum bigint not null,
  answer_p50_ms bigint,
  answer_p95_ms bigint,
  answer_p99_ms bigint,
  answer_buckets integer[] not null,
  answer_counts bigint[] not null check (cardinality(answer_counts) = cardinality(answer_buckets)),
  active_contacts bigint not null,
  contact_hashes bigint[] not null,
  primary key (company_id, day)
);
comment on table secretaria.rollup_days is
  'What happened at a company on a day of its own time zone. Computed as a whole from the event lake, replaced as a whole.';
comment on column secretaria.rollup_days.version is 'Rises when a later computation gives other numbers.';
comment on column secretaria.rollup_days.answer_buckets is
  'A DDSketch of the response times: each is in bucket ceil(ln(ms) / ln(1.01 / 0.99)), zero in -1. The counts of several days
add up to the sketch of all of them, from which percentiles follow within 1 %.';
comment on column secretaria.rollup_days.contact_hashes is
  'The smallest 2048 hashes of the contacts, ascending: all of them up to that number. The smallest of several days united give
the number of contacts in all of them.';

create table secretaria.rollup_day_counts (
  company_id bigint not null,
  day date not null,
  measure text not null check (
    measure in ('turn_outcome', 'delivery_outcome', 'model_calls', 'tokens_in', 'tokens_out', 'tokens_cached',
      'cost_usd_micros', 'cost_brl_micros', 'events_by_kind')
  ),
  name text not null,
  detail text not null default '',
  amount bigint not null,
  primary key (company_id, day, measure, name, detail),
  foreign key (company_id, day) references secretaria.rollup_days on delete cascade
);
comment on table secretaria.rollup_day_counts is
  'The same by parts: turns by outcome and reason, deliveries by outcome, tokens and cost by model, events by kind.';

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array['rollup_parts', 'rollup_days', 'rollup_day_counts']
  loop
    execute format('alter table secretaria.%I enable row level security', tenant_table);
    execute format('alter table secretaria.%I force row level security', tenant_table);
    execute format('create policy owner_all on secretaria.%I to secretaria_owner using (true)', tenant_table);
    execute format(
      'create policy service_all on secretaria.%I to secretaria_service using (true) with check (true)', tenant_table);
    execute format(
      'create policy operator_reads on secretaria.%I for select to secretaria_operator using (true)', tenant_table);
    execute format(
      'create policy company_reads_own on secretaria.%I for select to secretaria_api
       using (company_id = (select secretaria.session_company()))', tenant_table);
    execute format('grant select on secretaria.%I to secretaria_operator', tenant_table);
    execute format('grant select, insert, update, delete on secretaria.%I to secretaria_service', tenant_table);
  end loop;
end
$$;

grant select
on secretaria.rollup_days, secretaria.rollup_day_counts
to secretaria_api;
-- Days of all companies, and nothing of any.
grant select (day, mark, computed_mark)
on secretaria.rollup_utc_days
to secretaria_api;

grant select, insert, update, delete
on secretaria.lake_files, secretaria.lake_batches, secretaria.rollup_utc_days
to secretaria_service;
grant select
on secretaria.lake_files, secretaria.lake_batches, secretaria.rollup_utc_days
to secretaria_operator;
grant usage
on sequence secretaria.rollup_marks
to secretaria_service;

-- The days of a company begin elsewhere in another time zone: all of them are computed again.
create function secretaria.mark_days_of_company()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Who names files holds this lock shared until its commit: a file that is not seen here is marked by its own transaction.
  perform pg_advisory_xact_lock(hashtextextended('secretaria lake', 0));
  insert into secretaria.rollup_utc_days as d (day)
  select distinct f.day
  from secretaria.lake_files f
  where f.companies @> array[new.company_id]
    and f.replaced_at is null
  order by f.day
  on conflict (day) do update
  set mark = nextval('secretaria.rollup_marks'),
    marked_at = now();
  return null;
end
$$;
comment on function secretaria.mark_days_of_company() is
  'Volatile; waits for transactions that name files, locks the marks of the days, in their order. Marks every day with events of the
company as dirty.';
revoke execute on function secretaria.mark_days_of_company() from public;
create trigger a_new_time_zone_marks_days
after update of time_zone on secretaria.companies
for each row
when (old.time_zone is distinct from new.time_zone)
execute function secretaria.mark_days_of_company();

reset role;
