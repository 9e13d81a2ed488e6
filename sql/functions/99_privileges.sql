-- Which roles may call each function, beside its owner secretaria_quota. Every function has a row; other privileges are
-- taken back. {public}: every role, because the function checks its caller itself, or reads nothing but its arguments.
-- {}: no role, only the other functions.

create temporary table function_privileges (function name primary key, roles name[] not null)
on commit drop;

insert into pg_temp.function_privileges (function, roles)
values
  -- 10_callers/authorise.sql
  ('_may',                             '{}'),
  ('_authorise',                       '{secretaria_operator}'),
  ('_own_key',                         '{}'),
  ('_now',                             '{}'),
  -- 10_callers/company_roles.sql
  ('_register_company_role',           '{secretaria_operator}'),
  ('_create_company_view',             '{secretaria_operator}'),
  ('create_company_role',              '{secretaria_operator}'),
  -- 20_entitlements/materialise.sql
  ('_held_in',                         '{}'),
  ('_store',                           '{}'),
  ('_materialise',                     '{}'),
  ('_company_edited',                  '{}'),
  ('_grant_edited',                    '{}'),
  ('_catalogue_edited',                '{}'),
  ('_verify_entitlements',             '{}'),
  ('verify_entitlements',              '{public}'),
  -- 20_entitlements/periods.sql
  ('_instant',                         '{public}'),
  ('_boundary',                        '{public}'),
  ('current_period',                   '{public}'),
  -- 20_entitlements/resolve.sql
  ('_threshold_reached',               '{}'),
  ('_used_in',                         '{}'),
  ('_credits',                         '{}'),
  ('_resolve',                         '{}'),
  -- 30_checks/check.sql
  ('_check',                           '{}'),
  ('_takes_fast_path',                 '{}'),
  ('_check_slow_path',                 '{}'),
  ('check_feature_access',             '{public}'),
  ('has_feature',                      '{public}'),
  -- 30_checks/check_many.sql
  ('check_feature_access_many',        '{public}'),
  ('entitlements',                     '{public}'),
  ('get_static_entitlement',           '{public}'),
  ('require_feature',                  '{public}'),
  -- 40_counters/alerts.sql
  ('_micros',                          '{}'),
  ('_announce',                        '{}'),
  ('_crossed',                         '{}'),
  ('_announce_threshold',              '{}'),
  ('_fire',                            '{}'),
  ('_store_and_announce',              '{}'),
  -- 40_counters/book.sql
  ('_refusal',                         '{}'),
  ('_consume',                         '{}'),
  ('_count',                           '{}'),
  ('_book',                            '{}'),
  -- 40_counters/closed_periods.sql
  ('_closed_period',                   '{}'),
  ('_book_closed',                     '{}'),
  -- 40_counters/ledger_lines.sql
  ('_line',                            '{}'),
  ('_stored',                          '{}'),
  ('_refresh',                         '{}'),
  -- 40_counters/shards.sql
  ('_used_in_shards',                  '{}'),
  ('_sharding',                        '{}'),
  ('_add_shards',                      '{}'),
  ('_merge_shards',                    '{}'),
  ('_remove_shards',                   '{}'),
  ('_headroom',                        '{}'),
  ('_rebalance',                       '{}'),
  ('_add_to_shard',                    '{}'),
  ('_count_in_shard',                  '{}'),
  -- 50_increments/increment.sql
  ('_has_headroom',                    '{}'),
  ('_increment_slow_path',             '{}'),
  ('_increment_fast_path',             '{}'),
  ('increment_feature_usage',          '{public}'),
  ('increment_feature_usage_or_raise', '{public}'),
  -- 50_increments/model_calls.sql
  ('increment_ai_usage',               '{public}'),
  -- 55_bulk/answers.sql
  ('_refused_in_bulk',                 '{}'),
  ('_thresholds_between',              '{}'),
  ('_answers_counted',                 '{}'),
  -- 55_bulk/counters.sql
  ('_count_late',                      '{}'),
  ('_count_bulk',                      '{}'),
  -- 55_bulk/facts.sql
  ('_same_length',                     '{}'),
  ('_tokens_payload',                  '{}'),
  ('_price',                           '{}'),
  ('_sum_up',                          '{}'),
  ('record_message_facts_bulk',        '{public}'),
  ('increment_ai_usage_bulk',          '{public}'),
  -- 55_bulk/increments.sql
  ('_lines_of_bulk',                   '{}'),
  ('_book_bulk',                       '{}'),
  ('increment_feature_usage_bulk',     '{public}'),
  -- 55_bulk/prepare.sql
  ('_prepare_bulk',                    '{}'),
  ('_record',                          '{}'),
  ('_answers',                         '{}'),
  -- 60_reservations/reserve.sql
  ('_expire_held',                     '{}'),
  ('_reservable',                      '{}'),
  ('_hold',                            '{}'),
  ('reserve_feature_usage',            '{public}'),
  -- 60_reservations/reserve_many.sql
  ('_reserve_many',                    '{secretaria_service}'),
  ('_release_many',                    '{secretaria_service}'),
  -- 60_reservations/settle.sql
  ('_take',                            '{}'),
  ('_give_back',                       '{}'),
  ('_settle',                          '{}'),
  ('commit_reservation',               '{public}'),
  ('release_reservation',              '{public}'),
  ('expire_reservations',              '{public}'),
  -- 70_corrections/adjust.sql
  ('_audit',                           '{}'),
  ('_current_start',                   '{}'),
  ('_restore_credits',                 '{}'),
  ('_amend',                           '{}'),
  ('_adjust',                          '{}'),
  ('adjust_feature_usage',             '{public}'),
  ('_set',                             '{}'),
  ('set_feature_usage',                '{public}'),
  -- 70_corrections/credits.sql
  ('grant_credits',                    '{public}'),
  ('void_grant',                       '{public}'),
  -- 70_corrections/ledger.sql
  ('verify_usage',                     '{public}'),
  ('trim_usage_events',                '{public}'),
  -- 80_lifecycle/plan_changes.sql
  ('_change_lines',                    '{}'),
  ('preview_plan_change',              '{public}'),
  ('change_subscription_plan',         '{public}'),
  ('_move_to_plan',                    '{}'),
  -- 80_lifecycle/subscriptions.sql
  ('_record_step',                     '{}'),
  ('_hold_subscription',               '{}'),
  ('_hold_open_subscription',          '{}'),
  ('_require_published',               '{}'),
  ('create_subscription',              '{public}'),
  ('cancel_subscription',              '{public}'),
  ('resume_subscription',              '{public}'),
  ('set_subscription_status',          '{public}');

do $$
declare
  wrong text;
  granted record;
begin
  select string_agg(p.oid::regprocedure::text, ', ' order by p.oid::regprocedure::text)
  into wrong
  from pg_catalog.pg_proc p
  where p.pronamespace = 'secretaria_reference'::regnamespace
    and not exists (select from pg_temp.function_privileges t where t.function = p.proname);
  if wrong is not null then
    raise exception 'sql/functions/99_privileges.sql has no row for %', wrong
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'add its row; your own functions belong in a schema of your own';
  end if;
  select string_agg(t.function, ', ' order by t.function)
  into wrong
  from pg_temp.function_privileges t
  where not exists (
    select
    from pg_catalog.pg_proc p
    where p.pronamespace = 'secretaria_reference'::regnamespace
      and p.proname = t.function
  );
  if wrong is not null then
    raise exception 'sql/functions/99_privileges.sql has a row for %, which is no function', wrong
      using errcode = 'undefined_function';
  end if;
  -- A row is for one function: what is left of one whose arguments were changed would get its privileges.
  select string_agg(p.proname, ', ' order by p.proname)
  into wrong
  from (
    select n.proname
    from pg_catalog.pg_proc n
    where n.pronamespace = 'secretaria_reference'::regnamespace
    group by n.proname
    having count(*) > 1
  ) p;
  if wrong is not null then
    raise exception 'there are several functions of the name %: drop those of an earlier build', wrong
      using errcode = 'duplicate_function';
  end if;
  for granted in
    select p.oid::regprocedure as function, t.roles, a.others
    from pg_temp.function_privileges t
    join pg_catalog.pg_proc p
      on p.proname = t.function
      and p.pronamespace = 'secretaria_reference'::regnamespace
    cross join lateral (
      select concat_ws(', ', 'public', string_agg(distinct e.grantee::regrole::text, ', ')) as others
      from pg_catalog.aclexplode(p.proacl) e
      where e.grantee <> 0
    ) a
    order by t.function
  loop
    execute format('alter routine %s owner to secretaria_quota', granted.function);
    execute format('revoke all on routine %s from %s', granted.function, granted.others);
    execute format('grant execute on routine %s to secretaria_quota', granted.function);
    if cardinality(granted.roles) > 0 then
      execute format('grant execute on routine %s to %s', granted.function, array_to_string(granted.roles, ', '));
    end if;
  end loop;
end
$$;
