//! An increment that is plain asks the reference only to write; every other one is the reference's.

use crate::support::{agree, database, outcome};

/// Which functions of the reference a statement runs, as the server counts them.
const RAN: &str = "select coalesce(string_agg(funcname, ' ' order by funcname), '') from pg_stat_xact_user_functions
    where schemaname = 'secretaria_reference'";

#[test]
fn ask_the_reference_only_to_write_where_nothing_is_near() {
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
        assert_eq!(ran(plain, "none"), "_increment_plainly", "{plain}");
        assert_eq!(ran(plain, "secretaria_service"), "_increment_plainly", "{plain}");
    }
    for other in [
        "2, 'whatsapp_messages', 1, null, now()",
        "2, 'whatsapp_messages', 1, on_exceed => 'allow'",
        "2, 'whatsapp_messages', 1, on_exceed => 'cap'",
    ] {
        let ran = ran(other, "none");
        assert!(ran.split(' ').any(|name| name == "increment_feature_usage"), "{other} ran {ran}");
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
