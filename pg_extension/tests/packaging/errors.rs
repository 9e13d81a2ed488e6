//! A binding raises what the PL/pgSQL function raises: every field of it.

use postgres::error::DbError;
use postgres::{Client, IsolationLevel};

use crate::support::{Database, agree, database, outcome};

/// What a statement fails with, field by field with where in the server it came from, and what called what then.
fn refusal(session: &mut Client, statement: &str) -> (String, String) {
    let error = session.batch_execute(statement).expect_err(statement);
    let it: &DbError = error.as_db_error().unwrap_or_else(|| panic!("{statement}: {error}"));
    let fields = [
        Some(it.code().code()),
        Some(it.severity()),
        Some(it.message()),
        it.detail(),
        it.hint(),
        it.schema(),
        it.table(),
        it.column(),
        it.datatype(),
        it.constraint(),
        it.file(),
        it.routine(),
    ];
    (fields.map(|field| field.unwrap_or("-")).join("\n"), it.where_().unwrap_or_default().to_owned())
}

/// Asks both, and returns what both say.
#[track_caller]
fn both(session: &mut Client, call: &str) -> String {
    let (wanted, stack) = refusal(session, &call.replace("{}", "secretaria_reference"));
    let (said, own_stack) = refusal(session, &call.replace("{}", "secretaria"));
    assert_eq!(said, wanted, "{call}");
    // An increment may leave out the way of PL/pgSQL to where it writes, the outermost lines; nothing else may.
    let outermost = stack.strip_prefix(&own_stack).unwrap_or_else(|| panic!("{call}: {own_stack}\ninstead of {stack}"));
    assert!(own_stack.is_empty() == stack.is_empty(), "{call} has no stack");
    if !call.contains("{}.increment_feature_usage(") {
        assert_eq!(outermost, "", "{call}");
    }
    format!("{wanted}\n{stack}")
}

/// Company 2 may send so many messages.
fn limited(database: &Database, limit: i64) -> Client {
    let mut session = database.session();
    session
        .batch_execute(&format!(
            "insert into secretaria.company_overrides (company_id, feature, mode, limit_value, soft, reason)
             values (2, 'whatsapp_messages', 'replace', {limit}, false, 'test');
             select secretaria.increment_feature_usage(2, 'whatsapp_messages', 1, 'a key')"
        ))
        .expect("limited");
    session
}

#[test]
fn arrive_with_constraint_detail_and_hint() {
    let Some(database) = database() else { return };
    let mut session = limited(&database, 10);
    for (call, parts) in [
        (
            "increment_feature_usage(2, 'whatsapp_messages', 2, 'a key')",
            &["23505", "usage_events", "usage_events_pkey"][..],
        ),
        (
            "increment_feature_usage_or_raise(2, 'whatsapp_messages', 11)",
            &["53400", "\"limit\" : 10", "\"requested\" : 11"],
        ),
        ("increment_feature_usage(2, 'whatsapp_messages', -1)", &["22023", "adjust_feature_usage takes back"]),
        ("increment_feature_usage(2, 'whatsapp_messages', null)", &["22004"]),
        ("increment_feature_usage(2, 'no_such_feature', 1)", &["42704"]),
        ("increment_feature_usage(999, 'whatsapp_messages', 1)", &["42704"]),
        ("set_feature_usage(2, 'whatsapp_messages', -1, 'test')", &["22"]),
        ("commit_reservation(2, '00000000-0000-4000-8000-000000000000')", &["42704"]),
        ("current_period(now(), 'fortnight', 'UTC', now())", &["22023"]),
        ("create_company_role(999)", &["42704"]),
    ] {
        let said = both(&mut session, &format!("select * from {{}}.{call}"));
        for part in parts {
            assert!(said.contains(part), "{call} says nothing of {part}: {said}");
        }
    }
    agree(&mut session);
}

#[test]
fn arrive_with_codes_that_no_list_has_and_names_of_columns() {
    let Some(database) = database() else { return };
    let mut session = limited(&database, 10);
    session
        .batch_execute(
            "create function public.complain() returns trigger language plpgsql as $$ begin
               raise exception 'not today' using errcode = 'ZX042', detail = 'a detail', hint = 'a hint', schema = 'a schema',
                 table = 'a table', column = 'a column', datatype = 'a type', constraint = 'a constraint';
             end $$;
             create trigger complain before insert on secretaria.usage_events
             for each row execute function public.complain()",
        )
        .expect("the trigger is made");
    let said = both(&mut session, "select {}.increment_feature_usage(2, 'whatsapp_messages', 1, 'another key')");
    for part in ["ZX042", "a detail", "a hint", "a schema", "a table", "a column", "a type", "a constraint"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
}

#[test]
fn of_concurrent_updates_can_be_told_and_tried_again() {
    let Some(database) = database() else { return };
    let (mut early, mut late) = (limited(&database, 10), database.session());
    for schema in ["secretaria_reference", "secretaria"] {
        let add = format!("select {schema}.increment_feature_usage(2, 'whatsapp_messages', 1)");
        let mut transaction =
            early.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().expect("begun");
        transaction.batch_execute("select count(*) from secretaria.feature_usage").expect("the snapshot is taken");
        late.batch_execute(&add).expect("added");
        let error = transaction.batch_execute(&add).expect_err("the row has changed");
        assert_eq!(error.code().map(postgres::error::SqlState::code), Some("40001"), "{schema}");
        transaction.rollback().expect("rolled back");
        early.batch_execute(&add).expect("tried again");
    }
}

#[test]
fn can_be_caught_any_number_of_times() {
    let Some(database) = database() else { return };
    let mut session = limited(&database, 10);
    let caught = "
        create function pg_temp.caught() returns bigint language plpgsql as $$
        declare
          caught bigint := 0;
          answer record;
        begin
          for n in 1..2000 loop
            begin
              -- Both ways in which PL/pgSQL calls a function: by a query, and without one.
              if n % 2 = 0 then
                perform secretaria.increment_feature_usage_or_raise(2, 'whatsapp_messages', 100);
              else
                answer := secretaria.increment_feature_usage_or_raise(2, 'whatsapp_messages', 100);
              end if;
            exception
              when configuration_limit_exceeded then caught := caught + 1;
            end;
          end loop;
          answer := secretaria.increment_feature_usage_or_raise(2, 'whatsapp_messages', 1);
          return caught * 100 + answer.used_after;
        end $$";
    session.batch_execute(caught).expect("the function is made");
    assert_eq!(outcome(&mut session, "select pg_temp.caught()"), Ok(vec!["200002".to_owned()]));
    agree(&mut session);
}

#[test]
fn refuse_the_roles_that_plpgsql_refuses() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let role = format!("packaging_{}_stranger", std::process::id());
    session
        .batch_execute(&format!("create role {role}; grant usage on schema secretaria, secretaria_reference to {role}"))
        .expect("the role is made");
    let calls = [
        "create_company_role(1)",
        "increment_feature_usage(1, 'whatsapp_messages', 1)",
        "increment_feature_usage(1, 'whatsapp_messages', 1, on_exceed => 'allow')",
        "grant_credits(1, 'ai_tokens', 1)",
        "verify_usage(1)",
        "verify_usage()",
        "entitlements(1)",
        "expire_reservations()",
    ];
    let mut refused = 0;
    for who in ["secretaria_service", "secretaria_api", "secretaria_operator", "secretaria_analyst", &role] {
        session.batch_execute(&format!("set role {who}")).expect("set role");
        for call in calls {
            let ask = |schema: &str| format!("begin; select count(*) from (select {schema}.{call}) asked; rollback");
            let mut answer = |schema: &str| {
                let answer = outcome(&mut session, &ask(schema));
                session.batch_execute("rollback").expect("rolled back");
                answer
            };
            let wanted = answer("secretaria_reference");
            refused += usize::from(wanted == Err("42501".to_owned()));
            assert_eq!(answer("secretaria"), wanted, "{who}: {call}");
        }
        session.batch_execute("reset role").expect("reset");
    }
    assert!(refused > 5, "hardly anybody was refused, so this proved little");
    drop(session);
    database.session().batch_execute(&format!("drop owned by {role}; drop role {role}")).expect("the role is dropped");
}
