//! A plain increment has PL/pgSQL only write; every other one is passed on to PL/pgSQL.

use crate::support::{agree, database, outcome};

/// Which PL/pgSQL functions a statement runs, as the server counts them.
const RAN: &str = "select coalesce(string_agg(funcname, ' ' order by funcname), '') from pg_stat_xact_user_functions
    where schemaname = 'secretaria_reference'";

#[test]
fn call_only_the_fast_path_far_from_limits() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    session.batch_execute("set track_functions = 'pl'; set secretaria.slots = 'off'").expect("set");
    let mut ran = |arguments: &str, role: &str| {
        session.batch_execute(&format!("begin; set local role {role}")).expect("begun");
        let call = format!("select accepted from secretaria.increment_feature_usage({arguments})");
        let accepted: bool = session.query_one(&call, &[]).expect("counted").get(0);
        assert!(accepted, "{arguments}");
        let ran: String = session.query_one(RAN, &[]).expect("told").get(0);
        session.batch_execute("rollback").expect("rolled back");
        ran
    };
    for plain in ["2, 'whatsapp_messages', 1", "2, 'whatsapp_messages', 3, 'a key', properties => '{}'"] {
        assert_eq!(ran(plain, "none"), "_increment_fast_path", "{plain}");
        assert_eq!(ran(plain, "secretaria_service"), "_increment_fast_path", "{plain}");
    }
    for other in [
        "2, 'whatsapp_messages', 1, null, now()",
        "2, 'whatsapp_messages', 1, on_exceed => 'allow'",
        "2, 'whatsapp_messages', 1, on_exceed => 'cap'",
    ] {
        let ran = ran(other, "none");
        assert!(ran.split(' ').any(|name| name == "increment_feature_usage"), "{other} ran {ran}");
    }
    // A role that may only use is checked by PL/pgSQL. In a session of its own: counts of other calls stay for a while.
    let mut session = database.session();
    session
        .batch_execute(
            "set track_functions = 'pl'; begin; set local role secretaria_api; set local app.company_id = '2'",
        )
        .expect("begun");
    let call = "select accepted from secretaria.increment_feature_usage(2, 'whatsapp_messages', 1, 'a key')";
    assert!(session.query_one(call, &[]).expect("counted").get::<_, bool>(0));
    let ran: String = session.query_one(RAN, &[]).expect("told").get(0);
    assert!(ran.contains("_increment_slow_path") && !ran.contains("_increment_fast_path"), "ran {ran}");
}

#[test]
fn take_the_slow_path_where_the_fast_path_counted_nothing() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    session.batch_execute("set track_functions = 'pl'; set secretaria.slots = 'off'").expect("set");
    let increment = "select secretaria.increment_feature_usage(2, 'whatsapp_messages', 1, 'a key')";
    session.batch_execute(increment).expect("counted");
    for level in ["read committed", "repeatable read", "serializable"] {
        session.batch_execute(&format!("begin isolation level {level}; select 1")).expect("begun");
        let again =
            "select duplicate, used_after from secretaria.increment_feature_usage(2, 'whatsapp_messages', 1, 'a key')";
        let answer = session.query_one(again, &[]).expect("answered");
        assert_eq!((answer.get(0), answer.get(1)), (true, 1_i64), "{level}");
        let ran: String = session.query_one(RAN, &[]).expect("told").get(0);
        assert!(ran.contains("_increment_slow_path") && !ran.contains(" increment_feature_usage"), "ran {ran}");
        let other = increment.replace(", 1, ", ", 2, ");
        assert_eq!(outcome(&mut session, &other), Err("23505".to_owned()), "{level}");
        session.batch_execute("rollback").expect("rolled back");
    }
    agree(&mut session);
}

#[test]
fn read_texts_that_are_stored_in_any_way() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    session
        .batch_execute(
            "create table public.texts (name text, key text, way text);
             alter table public.texts alter name set storage external, alter key set storage external;
             insert into public.texts select 'whatsapp_messages', 'a key', 'reject';
             insert into public.texts select repeat('x', 100000), repeat('y', 300), 'reject'",
        )
        .expect("stored");
    for schema in ["secretaria_reference", "secretaria"] {
        let short = format!(
            "select i.used_after from public.texts t
             cross join lateral {schema}.increment_feature_usage(2, t.name, 1, t.key || '{schema}', null, t.way) i
             where length(t.name) < 100"
        );
        outcome(&mut session, &short).expect("counted");
        let long_key = format!(
            "select i.used_after from public.texts t
             cross join lateral {schema}.increment_feature_usage(2, 'whatsapp_messages', 1, t.key) i where length(t.key) > 100"
        );
        assert_eq!(outcome(&mut session, &long_key), Err("22023".to_owned()), "{schema}");
        let long_name = format!(
            "select i.used_after from public.texts t
             cross join lateral {schema}.increment_feature_usage(2, t.name, 1) i where length(t.name) > 100"
        );
        assert_eq!(outcome(&mut session, &long_name), Err("42704".to_owned()), "{schema}");
    }
}

#[test]
fn see_what_the_calls_before_them_in_one_query_counted() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let together = "select string_agg(i.used_after::text, ' ' order by n) from generate_series(1, 5) n
        cross join lateral secretaria.increment_feature_usage(2, 'whatsapp_messages', n - n + 1) i";
    for (slots, after) in [("off", "1 2 3 4 5"), ("on", "6 7 8 9 10"), ("auto", "11 12 13 14 15")] {
        for level in ["read committed", "repeatable read"] {
            session
                .batch_execute(&format!(
                    "begin isolation level {level}; set local secretaria.slots = '{slots}'; savepoint before"
                ))
                .expect("begun");
            assert_eq!(outcome(&mut session, together), Ok(vec![after.to_owned()]), "{slots}");
            session.batch_execute("rollback to before; savepoint again").expect("rolled back");
            assert_eq!(outcome(&mut session, together), Ok(vec![after.to_owned()]), "{slots}, again");
            let end = if level == "read committed" { "rollback" } else { "commit" };
            session.batch_execute(end).expect("ended");
        }
        agree(&mut session);
    }
}
