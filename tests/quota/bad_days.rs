//! Tables that are rewritten or emptied, and plans that are edited, while sessions are open and at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::Client;

use crate::increments::{assert_verifies, increment, limited};
use crate::support::{Database, company, plan, record, records, subscribe};

/// A session that has asked and counted so often that its plans are kept.
async fn warm(database: &Database, company: i64) -> (Client, [tokio_postgres::Statement; 2]) {
    let session = database.connect_as("secretaria_service").await;
    let check = format!("select used from check_feature_access({company}, 'whatsapp_messages')");
    let count = format!("select used_after from increment_feature_usage({company}, 'whatsapp_messages', 1)");
    let statements = [session.prepare(&check).await.unwrap(), session.prepare(&count).await.unwrap()];
    for statement in &statements {
        for _ in 0..8 {
            session.query_one(statement, &[]).await.unwrap();
        }
    }
    (session, statements)
}

#[tokio::test]
async fn open_sessions_go_on_counting_when_tables_are_rewritten() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let c = limited(&owner, 1000).await;
    let (one, [check, count]) = warm(&database, c).await;
    let (other, [other_check, other_count]) = warm(&database, c).await;
    let mut used = 16;
    for rewrite in [
        "vacuum full secretaria.feature_usage",
        "vacuum full secretaria.usage_events_0",
        "vacuum full secretaria.usage_events",
        "cluster secretaria.feature_usage using feature_usage_pkey",
        "reindex table secretaria.feature_usage",
        "vacuum full secretaria.feature_usage_periods",
    ] {
        owner.batch_execute(rewrite).await.unwrap();
        for (session, check, count) in [(&one, &check, &count), (&other, &other_check, &other_count)] {
            let told: i64 = session.query_one(check, &[]).await.unwrap().get(0);
            assert_eq!(told, used, "{rewrite}");
            used += 1;
            let counted: i64 = session.query_one(count, &[]).await.unwrap().get(0);
            assert_eq!(counted, used, "{rewrite}");
        }
    }
    assert_verifies(&owner).await;
}

#[tokio::test]
async fn a_rewrite_waits_for_a_transaction_that_has_counted_and_loses_nothing_of_it() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let c = limited(&owner, 1000).await;
    let (one, [_, count]) = warm(&database, c).await;
    one.batch_execute("begin; savepoint here").await.unwrap();
    one.query_one(&count, &[]).await.unwrap();
    one.batch_execute("rollback to here").await.unwrap();
    one.query_one(&count, &[]).await.unwrap();
    owner.batch_execute("set lock_timeout = '50ms'").await.unwrap();
    let refusal = owner.batch_execute("vacuum full secretaria.feature_usage").await.unwrap_err();
    assert_eq!(refusal.code().unwrap().code(), "55P03");
    one.batch_execute("commit").await.unwrap();
    owner.batch_execute("vacuum full secretaria.feature_usage").await.unwrap();
    assert_eq!(one.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 10);
    assert_verifies(&owner).await;
}

/// Rights are resolved again from their sources; what was counted is in the ledger, which says what is missing.
#[tokio::test]
async fn when_the_counters_are_emptied_rights_come_back_and_the_ledger_says_what_is_missing() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let c = limited(&owner, 10).await;
    let (one, [check, count]) = warm(&database, c).await;
    owner.batch_execute("truncate secretaria.feature_usage").await.unwrap();
    assert_eq!(one.query_one(&check, &[]).await.unwrap().get::<_, i64>(0), 0);
    let answer = format!("select allowed, reason, limit_value from check_feature_access({c}, 'whatsapp_messages')");
    assert_eq!(record(&one, &answer).await, "(t,ok,10)");
    assert_eq!(one.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 1);
    let missing = format!("select feature, counter, ledger, drift from verify_usage({c})");
    assert_eq!(records(&owner, &missing).await, ["(whatsapp_messages,1,9,-8)"]);
    // The operator puts the count right by what the ledger says; the lines are there already.
    let restore = format!(
        "update secretaria.feature_usage u set used = l.ledger, ceiling = greatest(u.limit_value, l.ledger)
        from verify_usage({c}) l where u.company_id = {c} and u.feature = l.feature and u.period_start = l.period_start"
    );
    owner.batch_execute(&restore).await.unwrap();
    assert_eq!(one.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 10);
    assert_eq!(
        increment(&one, &format!("{c}, 'whatsapp_messages', 1")).await,
        "(f,usage_limit_reached,f,10,10,0,0,{})"
    );
    assert_verifies(&owner).await;
}

/// One edit moves two limits together; a statement that asks for both sees both as before or both as after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_sees_an_edit_of_the_plan_whole_or_not_at_all() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let c = company(&owner).await;
    let features =
        |limit: i64| format!("('agents', {limit}, false, null), ('whatsapp_messages', {limit}, false, null)");
    let (small, large) = (plan(&owner, "small", &features(10)).await, plan(&owner, "large", &features(20)).await);
    subscribe(&owner, c, small).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut checkers = Vec::new();
    for level in ["read committed", "repeatable read", "serializable"] {
        let (session, is_over) = (database.connect_as("secretaria_service").await, Arc::clone(&is_over));
        session.batch_execute(&format!("set default_transaction_isolation = '{level}'")).await.unwrap();
        checkers.push(platform::task::spawn("checker", async move {
            let ask = format!(
                "select a.limit_value, b.limit_value
                from check_feature_access({c}, 'agents') a, check_feature_access({c}, 'whatsapp_messages') b"
            );
            let mut seen = std::collections::BTreeMap::new();
            while !is_over.load(Ordering::Relaxed) {
                *seen.entry(record(&session, &ask).await).or_insert(0) += 1;
            }
            seen
        }));
    }
    for round in 0..200 {
        let version = if round % 2 == 0 { large } else { small };
        let edit = format!("update secretaria.subscriptions set plan_version_id = {version}");
        owner.batch_execute(&edit).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    for checker in checkers {
        let seen = checker.await.unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["(10,10)", "(20,20)"], "{seen:?}");
    }
    assert_verifies(&owner).await;
}
