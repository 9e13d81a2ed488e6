-- The library of 0.3.0 counts through other internal functions of secretaria_reference; here only comments change.
\echo Use "alter extension secretaria update" to load this file. \quit

comment on function secretaria.check_feature_access(bigint, text, bigint, timestamptz) is
  'Stable; takes ACCESS SHARE on secretaria.feature_usage, changes nothing. Whether a company may use so much more of
a feature, and how much there is. 22004 for nulls, 22023 for a negative amount, 42501 for a company that is not the
caller''s.';
comment on function secretaria.has_feature(bigint, text) is
  'Stable; takes ACCESS SHARE on secretaria.feature_usage, changes nothing. Whether a company may use one more of a
feature: false for one that is not the caller''s. 22004 for nulls.';
comment on function secretaria.check_feature_access_many(bigint, text[]) is
  'Stable; takes ACCESS SHARE on secretaria.feature_usage, changes nothing. check_feature_access for one more of each
feature, in the order given. 22004 for nulls, 42501 for a company that is not the caller''s.';

do $$
declare
  binding regprocedure;
begin
  for binding in
    select p.oid
    from pg_catalog.pg_proc p
    where p.pronamespace = 'secretaria'::regnamespace
      and p.prosrc in ('secretaria_delegate', 'secretaria_increment')
  loop
    execute format('comment on function %s is %L', binding,
      'Calls the function of the same name in secretaria_reference, whose comment says what it locks and what it raises.');
  end loop;
end
$$;
