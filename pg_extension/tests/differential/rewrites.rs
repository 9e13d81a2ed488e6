//! The table is rewritten or emptied by somebody else while sessions are open that remember where its rows were.

use crate::support::{Database, agree, database, disagreements, outcome, stat};

const USED: &str = "select used::text from secretaria.check_feature_access(1, 'ai_tokens')";

/// Ways to give the table another file.
const REWRITES: [&str; 4] = [
    "vacuum full secretaria.feature_usage",
    "cluster secretaria.feature_usage using feature_usage_pkey",
    "alter table secretaria.feature_usage set (fillfactor = 40); vacuum full secretaria.feature_usage",
    "reindex table secretaria.feature_usage",
];

/// Sessions of every kind, each of which has remembered places.
fn readers(database: &Database) -> [postgres::Client; 3] {
    ["read committed", "repeatable read", "serializable"].map(|level| {
        let mut session = database.session();
        agree(&mut session);
        session.batch_execute(&format!("set default_transaction_isolation = '{level}'")).expect("set");
        session
    })
}

#[test]
fn open_sessions_read_on_after_a_rewrite() {
    let Some(database) = database() else { return };
    let mut owner = database.session();
    let mut readers = readers(&database);
    for (round, rewrite) in REWRITES.into_iter().enumerate() {
        // Dead versions at the front, so that the rows that are left move.
        for _ in 0..20 {
            owner.batch_execute("update secretaria.feature_usage set arming = arming + 1").expect("updated");
        }
        let count =
            "update secretaria.feature_usage set used = used + 1 where company_id = 1 and feature = 'ai_tokens'";
        owner.batch_execute(count).expect("counted");
        for step in rewrite.split("; ") {
            owner.batch_execute(step).expect(step);
        }
        for reader in &mut readers {
            assert_eq!(outcome(reader, USED), Ok(vec![(21 + round).to_string()]), "{rewrite}");
            agree(reader);
        }
    }
}

#[test]
fn a_snapshot_that_has_not_looked_yet_sees_what_was_there_after_a_rewrite() {
    let Some(database) = database() else { return };
    let mut owner = database.session();
    for level in ["repeatable read", "serializable"] {
        let mut reader = database.session();
        agree(&mut reader);
        // The snapshot is taken, and the table not locked.
        reader.batch_execute(&format!("begin isolation level {level}; select from pg_class limit 1")).expect("begun");
        let before = outcome(&mut owner, USED);
        for step in [
            "update secretaria.feature_usage set used = used + 1 where company_id = 1 and feature = 'ai_tokens'",
            "vacuum full secretaria.feature_usage",
        ] {
            owner.batch_execute(step).expect(step);
        }
        assert_ne!(outcome(&mut owner, USED), before, "{level}");
        assert_eq!(outcome(&mut reader, USED), before, "{level}");
        agree(&mut reader);
        reader.batch_execute("commit").expect("committed");
    }
}

#[test]
fn a_session_that_has_looked_holds_a_rewrite_up() {
    let Some(database) = database() else { return };
    let (mut owner, mut reader) = (database.session(), database.session());
    agree(&mut reader);
    owner.batch_execute("set lock_timeout = '50 ms'").expect("set");
    for emptied in ["vacuum full secretaria.feature_usage", "truncate secretaria.feature_usage"] {
        reader.batch_execute(&format!("begin; {USED}")).expect("read");
        assert_eq!(outcome(&mut owner, emptied), Err("55P03".to_owned()), "{emptied}");
        reader.batch_execute("commit").expect("committed");
    }
    agree(&mut reader);
}

#[test]
fn open_sessions_ask_the_sources_after_a_truncate_by_somebody_else() {
    let Some(database) = database() else { return };
    let mut owner = database.session();
    let mut readers = readers(&database);
    let right = "select allowed::text from secretaria.check_feature_access(1, 'agents')";
    owner.batch_execute("create temporary table kept as select * from secretaria.feature_usage").expect("kept");
    for _ in 0..2 {
        owner.batch_execute("truncate secretaria.feature_usage").expect("truncated");
        for reader in &mut readers {
            assert_eq!(disagreements(reader), Vec::<String>::new());
            assert_eq!(outcome(reader, right), Ok(vec!["true".to_owned()]), "rights come from their sources");
            assert_eq!(outcome(reader, USED), Ok(vec!["0".to_owned()]), "nothing is remembered of the count");
        }
        // The rows come back elsewhere, the last first.
        let back = "insert into secretaria.feature_usage select * from kept order by company_id desc, feature desc";
        owner.batch_execute(back).expect("back");
        for reader in &mut readers {
            assert_eq!(outcome(reader, USED), Ok(vec!["20".to_owned()]));
            agree(reader);
        }
    }
}

#[test]
fn a_truncate_that_is_rolled_back_was_none() {
    let Some(database) = database() else { return };
    let (mut owner, mut reader) = (database.session(), database.session());
    agree(&mut reader);
    owner.batch_execute("begin; truncate secretaria.feature_usage").expect("truncated");
    assert_eq!(disagreements(&mut owner), Vec::<String>::new());
    reader.batch_execute("set lock_timeout = '50 ms'").expect("set");
    // It waits, as a query does.
    assert_eq!(outcome(&mut reader, USED), Err("55P03".to_owned()));
    owner.batch_execute("rollback").expect("rolled back");
    for session in [&mut owner, &mut reader] {
        assert_eq!(outcome(session, USED), Ok(vec!["20".to_owned()]));
        agree(session);
    }
}

/// More rows than may be remembered, asked again and again in an order that forgets each before it comes again.
#[test]
fn a_full_cache_answers_no_less_and_no_differently() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    session
        .batch_execute(
            "insert into secretaria.feature_usage
               (company_id, feature, kind, allowed, soft, period_start, period_end, reason, source, used)
             select n, 'agents', 'metered', n % 3 > 0, n % 2 = 0, '-infinity', 'infinity', 'ok', 'plan', n
             from generate_series(1000, 3000) n;
             set secretaria.location_cache_entries = 64",
        )
        .expect("filled");
    let differing = "select count(*)::text from generate_series(1000, 3000) n
      cross join lateral secretaria.check_feature_access(n, 'agents') x
      cross join lateral secretaria_reference.check_feature_access(n, 'agents') y
      where x is distinct from y or x.used is distinct from n";
    for _ in 0..3 {
        assert_eq!(outcome(&mut session, differing), Ok(vec!["0".to_owned()]));
        assert!(stat(&mut session, "entries") <= 64);
    }
    assert!(stat(&mut session, "misses") > 5_000, "the cache was not too small, so this proved nothing");
    agree(&mut session);
}
