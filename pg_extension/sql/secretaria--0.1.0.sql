-- The read path of the entitlements: the names and answers of secretaria_reference, without the executor.
-- It asks for no table here, because a dump creates extensions before tables; a call says what is missing (0A000).
\echo Use "create extension secretaria" to load this file. \quit

create function secretaria.check_feature_access(
  company_id bigint,
  feature text,
  required bigint default 1,
  at timestamptz default null,
  out allowed boolean,
  out reason text,
  out feature_kind text,
  out limit_value bigint,
  out used bigint,
  out reserved bigint,
  out remaining bigint,
  out overage bigint,
  out soft_limit boolean,
  out period_start timestamptz,
  out period_end timestamptz,
  out source text,
  out checked_at timestamptz
)
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_check';
comment on function secretaria.check_feature_access(bigint, text, bigint, timestamptz) is
  'Stable; shares secretaria.feature_usage, changes nothing. Whether a company may use so much more of a feature, and
how much there is. 22004 for nulls, 22023 for a negative amount, 42501 for a company that is not the caller''s.';

create function secretaria.has_feature(company_id bigint, feature text)
returns boolean
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_has_feature';
comment on function secretaria.has_feature(bigint, text) is
  'Stable; shares secretaria.feature_usage, changes nothing. Whether a company may use one more of a feature: false for
one that is not the caller''s. 22004 for nulls.';

create function secretaria.check_feature_access_many(company_id bigint, features text[])
returns table (
  feature text,
  allowed boolean,
  reason text,
  feature_kind text,
  limit_value bigint,
  used bigint,
  reserved bigint,
  remaining bigint,
  overage bigint,
  soft_limit boolean,
  period_start timestamptz,
  period_end timestamptz,
  source text,
  checked_at timestamptz
)
language c
stable
parallel safe
rows 10
as 'MODULE_PATHNAME', 'secretaria_check_many';
comment on function secretaria.check_feature_access_many(bigint, text[]) is
  'Stable; shares secretaria.feature_usage, changes nothing. check_feature_access for one more of each feature, in the
order given. 22004 for nulls, 42501 for a company that is not the caller''s.';

create function secretaria.location_cache_stats(
  out hits bigint,
  out misses bigint,
  out mismatches bigint,
  out entries bigint
)
language c
volatile
parallel restricted
as 'MODULE_PATHNAME', 'secretaria_stats';
comment on function secretaria.location_cache_stats() is
  'Volatile; no locks. How often this session found a row where it was before, searched the index, or found another
row (or none) at a remembered place; and how many places it remembers.';

create function secretaria._noop_has(company_id bigint, feature text)
returns boolean
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_noop_has';
comment on function secretaria._noop_has(bigint, text) is
  'Stable; no locks. Answers without reading: what a call costs by itself, for benchmarks.';

create function secretaria._noop_check(
  company_id bigint,
  feature text,
  required bigint default 1,
  at timestamptz default null,
  out allowed boolean,
  out reason text,
  out feature_kind text,
  out limit_value bigint,
  out used bigint,
  out reserved bigint,
  out remaining bigint,
  out overage bigint,
  out soft_limit boolean,
  out period_start timestamptz,
  out period_end timestamptz,
  out source text,
  out checked_at timestamptz
)
language c
stable
parallel safe
as 'MODULE_PATHNAME', 'secretaria_noop_check';
comment on function secretaria._noop_check(bigint, text, bigint, timestamptz) is
  'Stable; no locks. Answers without reading: what a call costs by itself, for benchmarks.';
