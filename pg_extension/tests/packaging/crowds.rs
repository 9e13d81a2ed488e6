//! More keys than a session may remember places for, and more pages than the server has memory for.

use postgres::Client;

use crate::support::{agree, database, outcome, stat};

/// Counters of the companies from 1000 to `last`, of every kind of answer.
fn fill(session: &mut Client, last: i32) {
    let counters = format!(
        "insert into secretaria.feature_usage
           (company_id, feature, kind, allowed, soft, limit_value, ceiling, used, period_start, period_end, reason, source)
         select n, 'ai_tokens', 'metered', n % 3 > 0, n % 5 = 0, n % 7, 7, n % 7, '-infinity', 'infinity', 'ok', 'plan'
         from generate_series(1000, {last}) n"
    );
    session.batch_execute(&counters).expect("filled");
}

/// An empty table of which a row takes up a page.
fn ballast(session: &mut Client) {
    session.batch_execute("create table ballast (filling char(8000))").expect("made");
    session.batch_execute("alter table ballast alter filling set storage plain").expect("set");
}

#[test]
fn answers_alike_with_more_keys_than_places() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    fill(&mut session, 3000);
    session.batch_execute("set secretaria.location_cache_entries = 64").expect("set");
    let differ = "select count(*)::text from generate_series(1000, 3000) n
      cross join lateral secretaria.check_feature_access(n, 'ai_tokens', n % 4) x
      cross join lateral secretaria_reference.check_feature_access(n, 'ai_tokens', n % 4) y
      where x is distinct from y or secretaria.has_feature(n, 'ai_tokens') is distinct from y.allowed and n % 4 = 1";
    for round in 0..3 {
        assert_eq!(outcome(&mut session, differ), Ok(vec!["0".to_owned()]), "round {round}");
        assert!((1..=64).contains(&stat(&mut session, "entries")));
    }
    assert!(stat(&mut session, "mismatches") > 0 || stat(&mut session, "misses") > 6000, "every key had a place");
    agree(&mut session);
}

#[test]
fn pages_that_are_only_checked_stay_in_memory() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    ballast(&mut session);
    let ask = "select count(secretaria.has_feature(2, 'agents'))::text from generate_series(1, 1000)";
    outcome(&mut session, ask).expect("asked");
    let before = stat(&mut session, "mismatches");
    // Three times as many pages as the server has buffers pass by, a fiftieth of its buffers at a time.
    let crowd = "insert into ballast
       select 'x'
       from generate_series(1, (select 3 * setting::int / 150 from pg_settings where name = 'shared_buffers'))";
    for _ in 0..150 {
        session.batch_execute(crowd).expect("crowded");
        outcome(&mut session, ask).expect("asked");
    }
    assert_eq!(stat(&mut session, "mismatches"), before, "its page had to leave");
}

#[test]
fn answers_alike_when_the_pages_have_left_memory() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    fill(&mut session, 9000);
    let differ = "select count(*)::text from generate_series(1000, 9000) n
      cross join lateral secretaria.check_feature_access(n, 'ai_tokens', n % 4) x
      cross join lateral secretaria_reference.check_feature_access(n, 'ai_tokens', n % 4) y
      where x is distinct from y";
    assert_eq!(outcome(&mut session, differ), Ok(vec!["0".to_owned()]));
    let before = stat(&mut session, "mismatches");
    ballast(&mut session);
    // Twice as many pages as the server has buffers, then backwards through what was read above.
    session
        .batch_execute(
            "insert into ballast
             select 'x'
             from generate_series(1, (select 2 * setting::int from pg_settings where name = 'shared_buffers'));
             select count(*) from (
               select from secretaria.feature_usage order by company_id desc, feature desc offset 0) backwards",
        )
        .expect("crowded out");
    assert_eq!(outcome(&mut session, differ), Ok(vec!["0".to_owned()]));
    assert!(stat(&mut session, "mismatches") > before + 4000, "the pages were where they had been");
    agree(&mut session);
}
