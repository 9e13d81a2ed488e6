//! Counters with shards answer as one row does, and never pass a limit that one row would not.

use futures_util::future::join_all;
use tokio_postgres::Client;

use crate::increments::{alerts, assert_verifies, increment, limit, limited};
use crate::support::{Database, at, company, plan, record, records, subscribe};

/// Noon of the first day of a period, and of one that follows it.
const FIRST: &str = "2026-02-01 12:00Z";
const SECOND: &str = "2026-03-02 12:00Z";

async fn rows(client: &Client, company: i64) -> i64 {
    let count = "select count(*) from secretaria.feature_usage where company_id = $1 and feature = 'whatsapp_messages'";
    client.query_one(count, &[&company]).await.unwrap().get(0)
}

async fn given_to_shards(client: &Client, company: i64) -> Option<i64> {
    let sum = "select lent from secretaria.feature_usage
        where company_id = $1 and feature = 'whatsapp_messages' and slot = 0";
    client.query_one(sum, &[&company]).await.unwrap().get(0)
}

/// A number from 0 to below `bound`, the same for the same seed and step.
fn dice(seed: u64, step: u64, bound: u64) -> u64 {
    let mut state = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state ^ (state >> 31)) % bound
}

/// One of everything that can be done with a counter of `whatsapp_messages`, and what is asked of its answer.
fn call(seed: u64, step: u64, company: i64) -> String {
    let amount = 1 + dice(seed, step ^ 0xa, 9);
    let answer =
        "accepted, reason, used_before, used_after, reserved, limit_value, remaining, overage, thresholds_crossed";
    let counted = |function: &str| format!("select {answer} from {function}");
    match dice(seed, step, 24) {
        0 => counted(&format!("increment_feature_usage({company}, 'whatsapp_messages', 0)")),
        1 => counted(&format!("increment_feature_usage({company}, 'whatsapp_messages', {amount}, on_exceed => 'cap')")),
        2 => {
            counted(&format!("increment_feature_usage({company}, 'whatsapp_messages', {amount}, on_exceed => 'allow')"))
        }
        3 => counted(&format!("adjust_feature_usage({company}, 'whatsapp_messages', 2, null, 'test')")),
        4 => format!(
            "select allowed, reason, used, reserved, remaining
             from reserve_feature_usage({company}, 'whatsapp_messages', {amount}, '1 minute', 'held {step}')"
        ),
        5 => format!(
            "select count(release_reservation(company_id, reservation_id))
             from secretaria.usage_reservations where company_id = {company} and state = 'held'"
        ),
        6 => format!(
            "select accepted, reason, used_before, used_after, remaining from increment_feature_usage_bulk(
               array[{company}, {company}], array['whatsapp_messages', 'agents'], array[{amount}, 1],
               array['bulk {step}', 'bulk agents {step}'], array[null, null]::timestamptz[])"
        ),
        7 => format!(
            "select allowed, reason, used, remaining, overage from check_feature_access({company}, 'whatsapp_messages', {amount})"
        ),
        8 => format!("select has_feature({company}, 'whatsapp_messages')"),
        // The same key again: a duplicate tells what the first was told.
        9 => counted(&format!(
            "increment_feature_usage({company}, 'whatsapp_messages', 2, 'key {}')",
            dice(seed, step ^ 0xb, 40)
        )),
        _ => counted(&format!("increment_feature_usage({company}, 'whatsapp_messages', {amount}, 'one {step}')")),
    }
}

/// The same calls on two databases, one of which shards its counters from the first increment on.
async fn sharded_and_not(seed: u64, features: &str, steps: u64) {
    let (Some(one), Some(many)) = (Database::create().await, Database::create().await) else { return };
    many.set_slots("on").await;
    let (one, many) = (one.connect().await, many.connect().await);
    let mut companies = Vec::new();
    for client in [&one, &many] {
        at(client, FIRST).await;
        let c = company(client).await;
        subscribe(client, c, plan(client, "sharded", features).await).await;
        companies.push(c);
    }
    assert_eq!(companies[0], companies[1]);
    let mut has_given = false;
    for step in 0..steps {
        if step == steps * 3 / 4 {
            at(&one, SECOND).await;
            at(&many, SECOND).await;
        }
        let call = call(seed, step, companies[0]);
        let (alone, sharded) = (records(&one, &call).await, records(&many, &call).await);
        assert_eq!(alone, sharded, "seed {seed}, step {step}: {call}");
        has_given |= given_to_shards(&many, companies[1]).await != Some(0);
    }
    assert!(has_given, "no shard ever got headroom, so nothing was shown");
    assert_eq!(alerts(&one, companies[0]).await, alerts(&many, companies[1]).await);
    assert_verifies(&one).await;
    assert_verifies(&many).await;
}

#[tokio::test]
async fn a_hard_limit_with_shards_answers_as_one_row() {
    for seed in 1..=3 {
        sharded_and_not(seed, "('whatsapp_messages', 1200, false, null), ('agents', 3, false, null)", 400).await;
    }
}

#[tokio::test]
async fn a_soft_limit_with_shards_answers_as_one_row() {
    sharded_and_not(4, "('whatsapp_messages', 1200, true, null), ('agents', 3, false, null)", 500).await;
}

#[tokio::test]
async fn no_limit_with_shards_answers_as_one_row() {
    sharded_and_not(5, "('whatsapp_messages', null, false, null), ('agents', 3, false, null)", 200).await;
}

/// How often a call of `increment_feature_usage` took its slow path, as far as this session has counted.
async fn slow_paths(client: &Client) -> i64 {
    let calls = "select coalesce(sum(calls), 0)::bigint from pg_stat_xact_user_functions where funcname = '_increment_slow_path'";
    client.query_one(calls, &[]).await.unwrap().get(0)
}

/// The same calls on two databases, one of which never takes the fast path, since its clock was set.
async fn plain_and_full(slots: &str) {
    let (Some(plain), Some(full)) = (Database::create().await, Database::create().await) else { return };
    plain.set_slots(slots).await;
    let (plain, full) = (plain.connect().await, full.connect().await);
    let now: String = full.query_one("select now()::text", &[]).await.unwrap().get(0);
    at(&full, &now).await;
    for (index, features) in [
        "('whatsapp_messages', 700, false, null), ('agents', 3, false, null)",
        "('whatsapp_messages', 700, true, null), ('agents', 3, false, null)",
        "('whatsapp_messages', null, false, null), ('agents', 3, false, null)",
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 10 + index as u64;
        let mut companies = Vec::new();
        for client in [&plain, &full] {
            let c = company(client).await;
            subscribe(client, c, plan(client, &format!("plan_{index}"), features).await).await;
            companies.push(c);
        }
        assert_eq!(companies[0], companies[1]);
        for (client, times) in [(&plain, 0), (&full, 2)] {
            // The first adds the shards, the second gives one headroom: from then on plain calls take the fast path.
            for key in ["first", "second"] {
                increment(client, &format!("{}, 'whatsapp_messages', 1, '{key}'", companies[0])).await;
            }
            client.batch_execute("begin; set local track_functions = 'pl'").await.unwrap();
            let before = slow_paths(client).await;
            for key in ["third", "fourth"] {
                increment(client, &format!("{}, 'whatsapp_messages', 1, '{key}'", companies[0])).await;
            }
            assert_eq!(slow_paths(client).await - before, times);
            client.batch_execute("commit").await.unwrap();
        }
        for step in 0..250 {
            let call = call(seed, step, companies[0]);
            let (one, other) = (records(&plain, &call).await, records(&full, &call).await);
            assert_eq!(one, other, "seed {seed}, step {step}: {call}");
        }
        assert_eq!(alerts(&plain, companies[0]).await, alerts(&full, companies[1]).await);
    }
    assert_verifies(&plain).await;
    let lines =
        "select company_id, feature, amount, day, used_before, used_after, limit_value, thresholds, period_start,
          period_end, encode(payload_hash, 'hex'), substring(idempotency_key from '^(?:one|key|bulk).*')
        from secretaria.usage_events
        order by company_id, feature, amount, used_before, used_after, payload_hash, 12";
    assert_eq!(records(&plain, lines).await, records(&full, lines).await);
}

#[tokio::test]
async fn the_fast_path_answers_as_the_slow_path() {
    plain_and_full("off").await;
}

#[tokio::test]
async fn the_fast_path_on_a_counter_with_shards_does_too() {
    plain_and_full("on").await;
}

/// Calls one after another, each with a commit of its own; how many were accepted.
async fn spend(database: &Database, level: &str, company: i64, who: usize, calls: usize) -> usize {
    let client = database.connect_as("secretaria_service").await;
    client.batch_execute(&format!("set default_transaction_isolation = '{level}'")).await.unwrap();
    let mut accepted = 0;
    for n in 0..calls {
        let call =
            format!("select accepted from increment_feature_usage({company}, 'whatsapp_messages', 1, 'key {who} {n}')");
        loop {
            match client.query_one(&call, &[]).await {
                Ok(row) => break accepted += usize::from(row.get::<_, bool>(0)),
                Err(problem) => {
                    let code = problem.code().map_or("", tokio_postgres::error::SqlState::code);
                    assert!(["40001", "40P01"].contains(&code), "{problem:?}");
                }
            }
        }
    }
    accepted
}

async fn a_crowd_gets_the_limit(level: &str, limit: usize) {
    let Some(database) = Database::create().await else { return };
    database.set_slots("on").await;
    let client = database.connect().await;
    let c = limited(&client, limit as i64).await;
    let crowd = join_all((0..16).map(|who| spend(&database, level, c, who, limit / 14))).await;
    assert_eq!(crowd.iter().sum::<usize>(), limit, "what the clients were told");
    let booked = format!("select sum(amount) from secretaria.usage_events where company_id = {c}");
    assert_eq!(record(&client, &booked).await, format!("({limit})"));
    assert_eq!(alerts(&client, c).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_crowd_gets_exactly_a_limit_with_shards_at_read_committed() {
    a_crowd_gets_the_limit("read committed", 1_400).await;
}

#[tokio::test]
async fn a_crowd_gets_exactly_a_limit_with_shards_at_repeatable_read() {
    a_crowd_gets_the_limit("repeatable read", 700).await;
}

#[tokio::test]
async fn a_counter_that_several_sessions_write_at_once_gets_shards() {
    let Some(database) = Database::create().await else { return };
    database.set_slots("auto").await;
    let client = database.connect().await;
    // A transaction of another database that stays open looks like a second writer, because snapshots span the cluster.
    let mut alone = None;
    for _ in 0..5 {
        let c = limited(&client, 1_000_000).await;
        spend(&database, "read committed", c, 99, 50).await;
        if rows(&client, c).await == 1 {
            alone = Some(c);
            break;
        }
    }
    let Some(c) = alone else { panic!("one writer alone needs no more rows than one") };
    for round in 0..40 {
        if rows(&client, c).await > 1 {
            break;
        }
        join_all((0..8).map(|who| spend(&database, "read committed", c, 100 * round + who, 25))).await;
    }
    assert_eq!(rows(&client, c).await, 17);
    join_all((0..8).map(|who| spend(&database, "read committed", c, 9_000 + who, 5))).await;
    assert!(given_to_shards(&client, c).await > Some(0));
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_bulk_call_on_a_counter_with_shards_raises_its_alerts() {
    let Some(database) = Database::create().await else { return };
    database.set_slots("on").await;
    let client = database.connect().await;
    let c = limited(&client, 100_000).await;
    for (step, (amount, thresholds, raised)) in [
        (2_000, "{80}", &["(whatsapp_messages,80)"][..]),
        (20_000, "{100}", &["(whatsapp_messages,80)", "(whatsapp_messages,100)"]),
    ]
    .into_iter()
    .enumerate()
    {
        if step == 0 {
            increment(&client, &format!("{c}, 'whatsapp_messages', 79000")).await;
        }
        increment(&client, &format!("{c}, 'whatsapp_messages', 1")).await;
        assert!(given_to_shards(&client, c).await > Some(0), "no shard has headroom, so nothing is shown");
        let call = format!(
            "select reason, thresholds_crossed from increment_feature_usage_bulk(
              array[{c}], array['whatsapp_messages'], array[{amount}], array['bulk {step}'], array[null]::timestamptz[])"
        );
        assert_eq!(record(&client, &call).await, format!("(ok,{thresholds})"));
        assert_eq!(alerts(&client, c).await, raised);
    }
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_companys_own_view_shows_a_counter_once() {
    let Some(database) = Database::create().await else { return };
    database.set_slots("on").await;
    let client = database.connect().await;
    let c = limited(&client, 10_000).await;
    for key in ["a", "b"] {
        increment(&client, &format!("{c}, 'whatsapp_messages', 10, '{key}'")).await;
    }
    assert_eq!(rows(&client, c).await, 17);
    // Roles are the whole server's, so this one is taken back.
    client.batch_execute("begin").await.unwrap();
    let role: String = client.query_one("select create_company_role($1)::text", &[&c]).await.unwrap().get(0);
    let view = format!("select used, limit_value from {role}.feature_usage where feature = 'whatsapp_messages'");
    assert_eq!(record(&client, &view).await, "(20,10000)");
    client.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn an_edit_removes_the_shards() {
    let Some(database) = Database::create().await else { return };
    database.set_slots("on").await;
    let client = database.connect().await;
    let c = limited(&client, 10_000).await;
    for key in ["a", "b", "c"] {
        increment(&client, &format!("{c}, 'whatsapp_messages', 10, '{key}'")).await;
    }
    assert_eq!((rows(&client, c).await, given_to_shards(&client, c).await > Some(0)), (17, true));
    limit(&client, c, "whatsapp_messages", 35).await;
    assert_eq!((rows(&client, c).await, given_to_shards(&client, c).await), (1, Some(0)));
    let after = increment(&client, &format!("{c}, 'whatsapp_messages', 6, 'd'")).await;
    assert_eq!(after, "(f,usage_limit_reached,f,30,30,5,0,{})");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_feature_with_credits_keeps_its_one_row() {
    let Some(database) = Database::create().await else { return };
    database.set_slots("on").await;
    let client = database.connect().await;
    let c = limited(&client, 10_000).await;
    let grant = "select grant_credits($1, 'whatsapp_messages', 100, idempotency_key => 'gift')";
    client.query_one(grant, &[&c]).await.unwrap();
    increment(&client, &format!("{c}, 'whatsapp_messages', 10, 'a'")).await;
    assert_eq!(rows(&client, c).await, 1);
}

#[tokio::test]
async fn what_is_rolled_back_was_not_given_to_a_shard() {
    let Some(database) = Database::create().await else { return };
    database.set_slots("on").await;
    let client = database.connect().await;
    let c = limited(&client, 10_000).await;
    increment(&client, &format!("{c}, 'whatsapp_messages', 1, 'first'")).await;
    client.batch_execute("begin; savepoint s").await.unwrap();
    increment(&client, &format!("{c}, 'whatsapp_messages', 5, 'second'")).await;
    assert!(given_to_shards(&client, c).await > Some(0));
    client.batch_execute("rollback to s; commit").await.unwrap();
    assert_eq!(given_to_shards(&client, c).await, Some(0));
    let check = format!("select used from check_feature_access({c}, 'whatsapp_messages')");
    assert_eq!(record(&client, &check).await, "(1)");
    assert_verifies(&client).await;
}
