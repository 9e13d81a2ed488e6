//! The extension answers as PL/pgSQL does, for any kind of write, by any session, and in any snapshot.

#![expect(clippy::expect_used, reason = "what fails here fails the test")]

mod support;

use support::{Database, agree, database, disagreements, outcome, stat};

/// Where the row of company 1's tokens is.
fn place(database: &Database) -> String {
    database
        .session()
        .query_one(
            "select ctid::text from secretaria.feature_usage where company_id = 1 and feature = 'ai_tokens'",
            &[],
        )
        .expect("the row is there")
        .get(0)
}

#[test]
fn agrees_on_a_fresh_database_and_uses_the_places() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    agree(&mut session);
    assert!(stat(&mut session, "entries") > 0);
    assert_eq!(stat(&mut session, "mismatches"), 0);
}

#[test]
fn follows_updates_within_the_page_and_out_of_it() {
    let Some(database) = database() else { return };
    let (mut reader, mut writer) = (database.session(), database.session());
    agree(&mut reader);
    let before = place(&database);
    for used in 1..=500 {
        let update = "update secretaria.feature_usage set used = $1::bigint where company_id in (1, 2) and kind = 'metered' and not allowed is null and (ceiling is null or ceiling > $1)";
        writer.execute(update, &[&i64::from(used % 3)]).expect("updated");
        if used % 50 == 0 {
            agree(&mut reader);
        }
    }
    // A whole-table update in one transaction does not fit into the pages it began in.
    writer.batch_execute("begin").expect("begin");
    for _ in 0..200 {
        writer.batch_execute("update secretaria.feature_usage set arming = arming + 1").expect("updated");
    }
    agree(&mut writer);
    agree(&mut reader);
    writer.batch_execute("commit").expect("commit");
    agree(&mut reader);
    let block = |place: &str| place.split(',').next().map(str::to_owned);
    assert_ne!(block(&before), block(&place(&database)), "no row left its page, so this proved nothing");
    writer.batch_execute("vacuum secretaria.feature_usage").expect("vacuumed");
    agree(&mut reader);
}

#[test]
fn follows_a_rewrite_of_the_table() {
    let Some(database) = database() else { return };
    let (mut reader, mut writer) = (database.session(), database.session());
    for rewrite in ["vacuum full secretaria.feature_usage", "cluster secretaria.feature_usage using feature_usage_pkey"]
    {
        agree(&mut reader);
        writer.batch_execute("update secretaria.feature_usage set arming = arming + 1").expect("updated");
        writer.batch_execute(rewrite).expect("rewritten");
        agree(&mut reader);
    }
    writer.batch_execute("reindex table concurrently secretaria.feature_usage").expect("reindexed");
    agree(&mut reader);
}

#[test]
fn never_reads_beyond_a_table_that_became_shorter() {
    let Some(database) = database() else { return };
    let (mut reader, mut writer) = (database.session(), database.session());
    let fill = "insert into secretaria.feature_usage
        (company_id, feature, kind, allowed, soft, period_start, period_end, reason, source)
      select n, 'agents', 'boolean', true, false, '-infinity', 'infinity', 'ok', 'plan'
      from generate_series(1000, 6000) n";
    let ask =
        "select count(*) filter (where secretaria.has_feature(n, 'agents'))::text from generate_series(1000, 6000) n";
    writer.batch_execute(fill).expect("filled");
    assert_eq!(outcome(&mut reader, ask), Ok(vec!["5001".to_owned()]));
    let misses = stat(&mut reader, "misses");
    assert_eq!(outcome(&mut reader, ask), Ok(vec!["5001".to_owned()]));
    assert!(stat(&mut reader, "misses") - misses < 1000, "most rows are found where they were before");

    let size = "select pg_relation_size('secretaria.feature_usage')";
    let long: i64 = writer.query_one(size, &[]).expect("size").get(0);
    writer.batch_execute("delete from secretaria.feature_usage where company_id >= 1000").expect("deleted");
    writer.batch_execute("vacuum (truncate) secretaria.feature_usage").expect("vacuumed");
    let short: i64 = writer.query_one(size, &[]).expect("size").get(0);
    assert!(short < long, "the table did not become shorter, so this proves nothing");
    assert_eq!(outcome(&mut reader, ask), Ok(vec!["0".to_owned()]));
    agree(&mut reader);

    // Other rows now lie where those were.
    writer.batch_execute(&fill.replace("1000, 6000", "7000, 12000")).expect("filled");
    let mismatches = stat(&mut reader, "mismatches");
    assert_eq!(outcome(&mut reader, ask), Ok(vec!["0".to_owned()]));
    assert!(stat(&mut reader, "mismatches") > mismatches, "a remembered place should have held another row");
}

#[test]
fn another_row_in_its_place_is_not_taken_for_it() {
    let Some(database) = database() else { return };
    let (mut reader, mut writer) = (database.session(), database.session());
    agree(&mut reader);
    // The company's own rows come back in the opposite order, into the line pointers that were freed.
    for step in [
        "create temporary table kept as select * from secretaria.feature_usage where company_id in (1, 2)",
        "delete from secretaria.feature_usage where company_id in (1, 2)",
        "vacuum (index_cleanup on) secretaria.feature_usage",
        "insert into secretaria.feature_usage select * from kept order by company_id, feature desc",
    ] {
        writer.batch_execute(step).expect(step);
    }
    let mismatches = stat(&mut reader, "mismatches");
    agree(&mut reader);
    assert!(stat(&mut reader, "mismatches") > mismatches, "no place held another row, so this proved nothing");
}

#[test]
fn follows_truncate_savepoints_and_rollback() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let used = "select used::text from secretaria.check_feature_access(1, 'ai_tokens')";
    agree(&mut session);
    for step in [
        "begin",
        "update secretaria.feature_usage set used = 21 where company_id = 1 and feature = 'ai_tokens'",
        "savepoint one",
        "update secretaria.feature_usage set used = 22 where company_id = 1 and feature = 'ai_tokens'",
    ] {
        session.batch_execute(step).expect("step");
        agree(&mut session);
    }
    assert_eq!(outcome(&mut session, used), Ok(vec!["22".to_owned()]));
    session.batch_execute("rollback to one").expect("rollback");
    agree(&mut session);
    assert_eq!(outcome(&mut session, used), Ok(vec!["21".to_owned()]));
    session.batch_execute("truncate secretaria.feature_usage").expect("truncated");
    // Nothing is left to be remembered: the sources are asked, by both.
    assert_eq!(disagreements(&mut session), Vec::<String>::new());
    session.batch_execute("rollback").expect("rollback");
    agree(&mut session);
    assert_eq!(outcome(&mut session, used), Ok(vec!["20".to_owned()]));
}

#[test]
fn an_open_snapshot_keeps_seeing_what_it_saw() {
    let Some(database) = database() else { return };
    let (mut reader, mut writer) = (database.session(), database.session());
    let used = "select used::text from secretaria.check_feature_access(1, 'ai_tokens')";
    for level in ["repeatable read", "serializable"] {
        writer
            .batch_execute(
                "update secretaria.feature_usage set used = 20 where feature = 'ai_tokens' and company_id = 1",
            )
            .expect("reset");
        reader.batch_execute(&format!("begin isolation level {level}")).expect("begin");
        agree(&mut reader);
        for round in 0..3 {
            writer
                .batch_execute("update secretaria.feature_usage set used = used + 1 where company_id = 1 and feature = 'ai_tokens'")
                .expect("updated");
            if round == 1 {
                for _ in 0..100 {
                    writer.batch_execute("update secretaria.feature_usage set arming = arming + 1").expect("updated");
                }
                writer.batch_execute("vacuum secretaria.feature_usage").expect("vacuumed");
            }
            agree(&mut reader);
            assert_eq!(outcome(&mut reader, used), Ok(vec!["20".to_owned()]), "{level}");
        }
        reader.batch_execute("commit").expect("commit");
        agree(&mut reader);
        assert_eq!(outcome(&mut reader, used), Ok(vec!["23".to_owned()]), "{level}");
    }
}

#[test]
fn holds_the_lock_that_a_query_would_hold() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let check = "select secretaria.has_feature(1, 'agents')";
    let locks = "select count(*)::text from pg_locks
      where pid = pg_backend_pid() and relation = 'secretaria.feature_usage'::regclass and mode = 'AccessShareLock'";
    agree(&mut session);
    for steps in
        [&["begin"][..], &["begin", "savepoint one", check, "rollback to one"], &["begin", check, "savepoint two"]]
    {
        for step in steps {
            session.batch_execute(step).expect(step);
        }
        session.batch_execute(check).expect("checked");
        assert_eq!(outcome(&mut session, locks), Ok(vec!["1".to_owned()]), "{steps:?}");
        session.batch_execute("commit").expect("commit");
        assert_eq!(outcome(&mut session, locks), Ok(vec!["0".to_owned()]), "{steps:?}");
    }
}

#[test]
fn serializable_readers_and_writers_conflict_as_queries_do() {
    let Some(database) = database() else { return };
    let (mut one, mut two) = (database.session(), database.session());
    agree(&mut one);
    agree(&mut two);
    // Each reads what the other writes: one of them must fail.
    for (session, feature) in [(&mut one, "ai_tokens"), (&mut two, "whatsapp_messages")] {
        session.batch_execute("begin isolation level serializable").expect("begin");
        let read = format!("select used from secretaria.check_feature_access(2, '{feature}')");
        session.batch_execute(&read).expect("read");
    }
    let write = |feature| {
        format!(
            "update secretaria.feature_usage set used = used + 1 where company_id = 2 and feature = '{feature}'; commit"
        )
    };
    let first = outcome(&mut one, &write("whatsapp_messages"));
    let second = outcome(&mut two, &write("ai_tokens"));
    assert_eq!([first.err(), second.err()].into_iter().flatten().collect::<Vec<_>>(), ["40001"]);
}

#[test]
fn time_passes_the_row_by() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    for change in [
        "update secretaria.subscriptions set status = 'trialing', trial_ends_at = now() + interval '10 days'",
        "update secretaria.subscriptions set status = 'past_due', grace_until = now() - interval '1 hour'",
        "update secretaria.subscriptions set status = 'active', cancel_at = now() + interval '20 days'",
        "update secretaria.feature_usage set valid_until = now() where company_id = 1",
    ] {
        session.batch_execute(change).expect(change);
        agree(&mut session);
    }
    for moved in ["now() - interval '90 days'", "now() + interval '15 days'", "now() + interval '400 days'"] {
        session
            .batch_execute(&format!("select set_config('secretaria.test_now', ({moved})::text, false)"))
            .expect("set");
        assert_eq!(disagreements(&mut session), Vec::<String>::new(), "{moved}");
    }
    session.batch_execute("reset secretaria.test_now").expect("reset");
    agree(&mut session);
}

#[test]
fn refuses_with_the_same_codes() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    for (call, code) in [
        ("check_feature_access(null, 'agents')", "22004"),
        ("check_feature_access(1, null)", "22004"),
        ("check_feature_access(1, 'agents', null)", "22004"),
        ("check_feature_access(1, 'agents', -1)", "22023"),
        ("has_feature(null, 'agents')", "22004"),
        ("has_feature(1, null)", "22004"),
        ("check_feature_access_many(null, array['agents'])", "22004"),
        ("check_feature_access_many(1, null)", "22004"),
        ("check_feature_access_many(1, array['agents', null])", "22004"),
    ] {
        for schema in ["secretaria", "secretaria_reference"] {
            assert_eq!(
                outcome(&mut session, &format!("select {schema}.{call}")),
                Err(code.to_owned()),
                "{schema}.{call}"
            );
        }
    }
    // What was under way when an error came does not stay locked.
    agree(&mut session);
}

#[test]
fn every_caller_sees_what_plpgsql_shows() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let role = format!("reads_{}_tenant", std::process::id());
    session
        .batch_execute(&format!(
            "create role {role}; grant usage on schema secretaria, secretaria_reference to {role};
             insert into secretaria.company_roles (company_id, role_name) values (2, '{role}')"
        ))
        .expect("the role is made");
    let calls = [
        "check_feature_access(1, 'agents')",
        "check_feature_access(2, 'agents')",
        "has_feature(1, 'ai_tokens')",
        "has_feature(2, 'ai_tokens')",
        "check_feature_access_many(1, array['agents'])",
        "check_feature_access_many(1, array[]::text[])",
        "check_feature_access_many(2, array['agents', 'reminders'])",
    ];
    let refused = std::cell::Cell::new(0);
    let compare = |session: &mut postgres::Client, who: &str| {
        for call in calls {
            // The instant differs between two statements, so it is left out.
            let ask = |schema: &str| format!("select regexp_replace(({schema}.{call})::text, '\"[^\"]*\"\\)$', '')");
            let wanted = outcome(session, &ask("secretaria_reference"));
            refused.set(refused.get() + usize::from(wanted == Err("42501".to_owned())));
            assert_eq!(outcome(session, &ask("secretaria")), wanted, "{who}: {call}");
        }
    };
    for who in ["secretaria_service", "secretaria_operator", "secretaria_api", "secretaria_analyst", &role] {
        session.batch_execute(&format!("set role {who}")).expect("set role");
        for company in ["", "1", "2", " 2 ", "two", "99999999999999999999"] {
            session.execute("select set_config('app.company_id', $1, false)", &[&company]).expect("set");
            compare(&mut session, &format!("{who} as {company:?}"));
        }
        session.batch_execute("reset role; reset app.company_id").expect("reset");
    }
    assert!(refused.get() > 0, "no caller was refused, so this proved nothing");

    // A role that moves to another company speaks for that one at once.
    let mut operator = database.session();
    session.batch_execute(&format!("set role {role}")).expect("set role");
    operator.batch_execute("update secretaria.company_roles set company_id = 1").expect("moved");
    compare(&mut session, "moved");
    operator.batch_execute("delete from secretaria.company_roles").expect("removed");
    compare(&mut session, "removed");
    operator.batch_execute(&format!("alter role {role} superuser")).expect("raised");
    compare(&mut session, "raised");
    drop(session);
    operator.batch_execute(&format!("drop owned by {role}; drop role {role}")).expect("the role is dropped");
}

#[test]
fn survives_changes_of_the_tables_definition() {
    let Some(database) = database() else { return };
    let (mut reader, mut owner) = (database.session(), database.session());
    agree(&mut reader);
    for change in [
        "alter table secretaria.feature_usage add column note text default 'x'",
        "alter table secretaria.feature_usage drop column note",
        "alter table secretaria.feature_usage rename to elsewhere; alter table secretaria.elsewhere rename to feature_usage",
        "analyze secretaria.feature_usage",
        "alter table secretaria.feature_usage drop constraint feature_usage_pkey;
         alter table secretaria.feature_usage add primary key (company_id, feature, slot)",
    ] {
        owner.batch_execute(change).expect(change);
        agree(&mut reader);
    }
    // PL/pgSQL reads a table without its index.
    owner.batch_execute("alter table secretaria.feature_usage drop constraint feature_usage_pkey").expect("dropped");
    assert_eq!(disagreements(&mut reader), Vec::<String>::new());
}

#[test]
fn remembers_no_more_than_it_may_and_works_in_parallel() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    session
        .batch_execute(
            "insert into secretaria.feature_usage
               (company_id, feature, kind, allowed, soft, period_start, period_end, reason, source)
             select n, 'agents', 'boolean', n % 2 = 0, false, '-infinity', 'infinity', 'ok', 'plan'
             from generate_series(1000, 60000) n;
             analyze secretaria.feature_usage; set secretaria.location_cache_entries = 64",
        )
        .expect("filled");
    let ask = "select count(*)::text from secretaria.feature_usage where secretaria.has_feature(company_id, feature)
      and company_id >= 1000";
    assert_eq!(outcome(&mut session, ask), Ok(vec!["29501".to_owned()]));
    assert!((1..=64).contains(&stat(&mut session, "entries")));
    session
        .batch_execute(
            "set secretaria.location_cache_entries = 1048576; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
             set min_parallel_table_scan_size = 0; set max_parallel_workers_per_gather = 2",
        )
        .expect("set");
    let plan = outcome(&mut session, &format!("explain {ask}")).expect("explained").join("\n");
    assert!(plan.contains("Gather"), "the plan is not parallel:\n{plan}");
    assert_eq!(outcome(&mut session, ask), Ok(vec!["29501".to_owned()]));
    // Queries of PL/pgSQL must not start workers, which would take minutes.
    session.batch_execute("set max_parallel_workers_per_gather = 0").expect("set");
    agree(&mut session);
}
