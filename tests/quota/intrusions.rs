//! More ways to get another role's rights: what a login can make (functions, operators, casts, tables, policies),
//! what a session can carry over from another role, and what the server offers beside SQL.

use crate::roles::{Stage, Who};
use crate::support::{record, refused};

/// Functions, tables, operators and types of the intruder's own. None returns a row unless it worked.
const OWN_OBJECTS: &[&str] = &[
    // A function with its owner's rights is still asked on behalf of who logged in.
    "create function pg_temp.mine(bigint) returns boolean security definer language sql
       as 'select secretaria_reference.has_feature($1, ''agents'')'; select 'yes' where pg_temp.mine({theirs})",
    "create function pg_temp.mine() returns bigint security definer language plpgsql
       as 'begin set local role secretaria_service; return 1; end'; select pg_temp.mine()",
    "create function pg_temp.mine() returns bigint language sql set role = 'secretaria_service' as 'select 1';
     select pg_temp.mine()",
    "create function pg_temp.mine() returns bigint language sql set session_authorization = 'postgres' as 'select 1';
     select pg_temp.mine()",
    "do 'begin execute ''set role secretaria_owner''; end'; select 1",
    "create temp view mine as select * from secretaria.feature_usage; select 1 from mine where company_id = {theirs}",
    // Tables that are named as ours are.
    "create temp table pg_roles as select current_user::name as rolname, true as rolsuper;
     set search_path = pg_temp, pg_catalog, secretaria, secretaria_reference;
     select check_feature_access({theirs}, 'agents')",
    "create temp table pg_roles as select current_user::name as rolname, true as rolsuper;
     set search_path = pg_temp, pg_catalog, secretaria, secretaria_reference;
     select increment_feature_usage({theirs}, 'agents', 1)",
    "create temp table feature_usage as select {theirs}::bigint as company_id, 'agents'::text as feature,
       0::smallint as slot, true as allowed, 'ok'::text as reason, 'boolean'::text as kind;
     set search_path = pg_temp, secretaria, secretaria_reference; select 'yes' where has_feature({theirs}, 'agents')",
    "create temp table usage_reservations as select {theirs}::bigint as company_id, '{reservation}'::uuid as
       reservation_id; set search_path = pg_temp, secretaria, secretaria_reference;
     select commit_reservation({theirs}, '{reservation}')",
    // Operators that find everything equal.
    "create function pg_temp.same(bigint, bigint) returns boolean language sql as 'select true';
     create operator pg_temp.= (leftarg = bigint, rightarg = bigint, function = pg_temp.same);
     set search_path = pg_temp, secretaria, secretaria_reference; select 'yes' where has_feature({theirs}, 'agents')",
    "create function pg_temp.same(name, name) returns boolean language sql as 'select true';
     create operator pg_temp.= (leftarg = name, rightarg = name, function = pg_temp.same);
     set search_path = pg_temp, secretaria, secretaria_reference; select check_feature_access({theirs}, 'agents')",
    "create function pg_temp.same(bigint, bigint) returns boolean cost 0.0001 language sql as 'select $1 = {theirs}';
     create operator pg_temp.= (leftarg = bigint, rightarg = bigint, function = pg_temp.same);
     select 1 from tenant_{ours}.feature_usage where company_id operator(pg_temp.=) {theirs}",
    // Numbers that are another's once they are cast.
    "create type pg_temp.whose as enum ('ours');
     create function pg_temp.number(pg_temp.whose) returns bigint language sql as 'select {theirs}::bigint';
     create cast (pg_temp.whose as bigint) with function pg_temp.number(pg_temp.whose) as implicit;
     select 'yes' where secretaria_reference.has_feature('ours'::pg_temp.whose, 'agents')",
    "create domain pg_temp.company as bigint;
     select check_feature_access({theirs}::pg_temp.company, 'agents'::varchar(6))",
    "create cast (text as bigint) without function; select 1",
    "select 'yes' where has_feature('{theirs}'::numeric::bigint, 'agents'::name::text)",
    "select check_feature_access(feature => 'agents', company_id => '{theirs}')",
    // Policies, triggers and defaults ask on behalf of who logged in, too.
    "create temp table mine as select {theirs}::bigint as company_id;
     alter table mine enable row level security; alter table mine force row level security;
     create policy ask on mine using (secretaria_reference.has_feature(company_id, 'agents')); select 1 from mine",
    "create temp table mine (company_id bigint);
     create trigger ask before insert on mine for each row
     execute function secretaria_reference.require_feature('agents', 'company_id');
     insert into mine values ({theirs}) returning 1",
    "create temp table mine (yes boolean default secretaria_reference.has_feature({theirs}, 'agents'));
     insert into mine default values; select 1 from mine where yes",
];

/// Side doors of the server, and our own objects turned against us.
const SIDE_DOORS: &[&str] = &[
    "set session authorization postgres; select 1",
    "set session authorization secretaria_service; select 1",
    "set local role postgres; select 1",
    "reset role; reset session authorization; select check_feature_access({theirs}, 'agents')",
    "set session_replication_role = replica; select 1",
    "set row_security = off; select 1 from secretaria.feature_usage where company_id = {theirs}",
    "set role = default; select increment_feature_usage({theirs}, 'agents', 1)",
    "prepare ask (bigint) as select secretaria_reference.check_feature_access($1, 'agents'); execute ask ({theirs})",
    "begin; declare mine cursor for select 1 from secretaria.feature_usage; fetch mine",
    "copy (select company_id from secretaria.feature_usage) to stdout",
    "explain analyze select * from secretaria.feature_usage",
    "lock table secretaria.feature_usage in share mode; select 1",
    "select 1 from secretaria.usage_events_0 where company_id = {theirs}",
    "select 1 from secretaria.usage_events_1",
    "select nextval('secretaria.audit_logs_audit_id_seq')",
    "select pg_read_file('postgresql.conf')",
    "select lo_import('/etc/hostname')",
    "reindex table secretaria.feature_usage; select 1",
    "create policy open on secretaria.feature_usage using (true); select 1",
    "alter table secretaria.feature_usage disable row level security; select 1",
    "alter view tenant_{ours}.feature_usage set (security_barrier = false); select 1",
    "create rule mine as on update to tenant_{ours}.feature_usage do instead nothing; select 1",
    "create function pg_temp.mine() returns trigger language plpgsql as 'begin return null; end';
     create trigger mine before insert on secretaria.usage_events for each row execute function pg_temp.mine();
     select 1",
    "alter function secretaria_reference.check_feature_access(bigint, text, bigint, timestamptz) security invoker;
     select 1",
    "drop function secretaria_reference._authorise(bigint, text); select 1",
    "grant select on secretaria.feature_usage to tenant_{ours}; select 1",
    "alter default privileges for role secretaria_owner grant select on tables to public; select 1",
    "grant secretaria_service to tenant_{ours}; select 1",
    "alter role tenant_{ours} superuser; select 1",
    "alter role tenant_{theirs} password 'known'; select 1",
    "create schema tenant_x; select 1",
    "create event trigger mine on ddl_command_end execute function secretaria_reference.require_feature(); select 1",
    "load 'plpgsql'; select 1",
    "create function pg_temp.mine(bigint, text) returns boolean language c as 'secretaria', 'secretaria_noop_has';
     select 1",
];

#[tokio::test]
async fn no_login_gets_in_by_objects_of_its_own_or_indirectly() {
    let Some(stage) = Stage::set(51).await else { return };
    let before = stage.everything().await;
    let mut succeeded = Vec::new();
    for who in [Who::Company, Who::Unknown] {
        for script in OWN_OBJECTS.iter().chain(SIDE_DOORS) {
            succeeded.extend(stage.attempt(who, script).await.err());
        }
    }
    let after = stage.everything().await;
    stage.strike().await;
    assert!(succeeded.is_empty(), "{}:\n{}", succeeded.len(), succeeded.join("\n"));
    assert_eq!(before, after, "something was moved");
}

/// What a superuser prepared, and ran often enough for a plan to be kept, asks on behalf of who executes it.
#[tokio::test]
async fn a_statement_prepared_with_more_rights_asks_for_the_role_that_runs_it() {
    let Some(stage) = Stage::set(61).await else { return };
    let (ours, theirs) = (stage.ours, stage.theirs);
    let session = stage.database.connect().await;
    let check = session.prepare("select (secretaria_reference.check_feature_access($1, 'agents')).allowed");
    let has = session.prepare("select secretaria_reference.has_feature($1, 'agents')");
    let count = session.prepare("select accepted from secretaria_reference.increment_feature_usage($1, 'agents', 0)");
    let (check, has, count) = (check.await.unwrap(), has.await.unwrap(), count.await.unwrap());
    let mut got = Vec::new();
    for role in ["none".to_owned(), format!("tenant_{ours}"), format!("tenant_{theirs}"), "none".to_owned()] {
        session.batch_execute(&format!("set role {role}")).await.unwrap();
        for statement in [&check, &has, &count] {
            let mut answers = Vec::new();
            for _ in 0..7 {
                let answer = session.query_one(statement, &[&theirs]).await;
                answers.push(answer.map(|it| it.get::<_, bool>(0)).map_err(|it| it.code().cloned()));
            }
            answers.dedup();
            got.push((role.clone(), answers));
        }
    }
    drop(session);
    stage.strike().await;
    let no = Some(tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE);
    for (role, answers) in got.chunks(3).map(|it| (&it[0].0, [&it[0].1, &it[1].1, &it[2].1])) {
        let expected = match role == &format!("tenant_{ours}") {
            true => [vec![Err(no.clone())], vec![Ok(false)], vec![Err(no.clone())]],
            false => [vec![Ok(true)], vec![Ok(true)], vec![Ok(true)]],
        };
        assert_eq!(answers, expected.each_ref(), "{role}");
    }
}

/// `set role` is a change of who asks; what it cannot reach stays out of reach, and a company's setting is no key.
#[tokio::test]
async fn who_asks_is_the_role_that_was_set_and_never_the_setting() {
    let Some(stage) = Stage::set(71).await else { return };
    let (ours, theirs) = (stage.ours, stage.theirs);
    let company = stage.database.connect_as(&format!("tenant_{ours}")).await;
    let mut refusals = Vec::new();
    // Every spelling of another's number.
    for spelled in [format!("{theirs}"), format!(" {theirs} "), format!("0{theirs}"), format!("+{theirs}")] {
        company.execute("select set_config('app.company_id', $1, false)", &[&spelled]).await.unwrap();
        for call in ["check_feature_access({theirs}, 'agents')", "increment_feature_usage({theirs}, 'agents', 1)"] {
            let call = format!("select {}", call.replace("{theirs}", &theirs.to_string()));
            refusals.push(refused(&company, &call, &[]).await);
        }
    }
    let own = record(&company, &format!("select has_feature({ours}, 'agents'), has_feature({theirs}, 'agents')")).await;
    drop(company);
    stage.strike().await;
    assert_eq!(refusals, vec!["42501"; refusals.len()]);
    assert_eq!(own, "(t,f)");
}
