//! Calls and edits that are on their way while a period ends, rows that are made again, and what a login of few rights
//! cannot take from others: locks and keys.

use std::time::Duration;

use tokio_postgres::Client;

use crate::increments::{assert_verifies, increment, limited};
use crate::support::{Database, at, record, starter};

/// Asks until the answer is yes.
async fn until(client: &Client, query: &str) {
    while !client.query_one(query, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_edit_that_waits_across_the_end_of_a_period_leaves_the_new_one() {
    let Some(database) = Database::create().await else { return };
    let (owner, one, other) = (database.connect().await, database.connect().await, database.connect().await);
    let c = crate::support::company(&owner).await;
    let version = starter(&owner).await;
    let subscribe = format!(
        "insert into secretaria.subscriptions (company_id, subscription_id, plan_version_id, status, anchor_at, time_zone)
        values ({c}, gen_random_uuid(), {version}, 'active', clock_timestamp() - interval '1 month' + interval '1 s', 'UTC')"
    );
    owner.batch_execute(&subscribe).await.unwrap();
    one.batch_execute(&format!("begin; select from secretaria.entitlement_epochs where company_id = {c} for update"))
        .await
        .unwrap();
    let waiting: i32 = other.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let edit = format!("insert into secretaria.feature_flags values ({c}, 'reminders', false)");
    let edited = platform::task::spawn("editor", async move { other.batch_execute(&edit).await });
    until(&owner, &format!("select exists (select from pg_locks where pid = {waiting} and not granted)")).await;
    let row = format!("from secretaria.feature_usage where company_id = {c} and feature = 'whatsapp_messages'");
    until(&owner, &format!("select period_end <= clock_timestamp() {row}")).await;
    assert_eq!(increment(&one, &format!("{c}, 'whatsapp_messages', 7")).await, "(t,ok,f,0,7,1993,0,{})");
    one.batch_execute("commit").await.unwrap();
    edited.await.unwrap().unwrap();
    let running = format!("select used, period_start <= clock_timestamp() and clock_timestamp() < period_end {row}");
    assert_eq!(record(&owner, &running).await, "(7,t)");
    assert_verifies(&owner).await;
}

/// As if the period had ended while the call was on its way: it names no instant, so it writes no past by intention.
#[tokio::test]
async fn a_call_that_a_new_period_overtakes_is_booked_where_it_belongs_and_needs_no_further_power() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let c = limited(&owner, 10).await;
    increment(&owner, &format!("{c}, 'whatsapp_messages', 4")).await;
    let next: String = owner.query_one("select (now() + interval '32 days')::text", &[]).await.unwrap().get(0);
    at(&owner, &next).await;
    increment(&owner, &format!("{c}, 'whatsapp_messages', 9")).await;
    let api = database.connect_as("secretaria_api").await;
    api.execute("select set_config('app.company_id', $1, false)", &[&c.to_string()]).await.unwrap();
    assert_eq!(increment(&api, &format!("{c}, 'whatsapp_messages', 5, 'late'")).await, "(t,ok,f,4,9,1,0,{})");
    let refusal = "(f,usage_limit_reached,f,9,9,1,0,{})";
    assert_eq!(increment(&api, &format!("{c}, 'whatsapp_messages', 2")).await, refusal, "the limit it had");
    assert_verifies(&owner).await;
}

#[tokio::test]
async fn a_bulk_call_that_a_new_period_overtakes_is_booked_where_it_belongs() {
    let Some(database) = Database::create().await else { return };
    let (ahead, client) = (database.connect().await, database.connect().await);
    let c = limited(&ahead, 10).await;
    increment(&ahead, &format!("{c}, 'whatsapp_messages', 4")).await;
    let next: String = ahead.query_one("select (now() + interval '32 days')::text", &[]).await.unwrap().get(0);
    at(&ahead, &next).await;
    increment(&ahead, &format!("{c}, 'whatsapp_messages', 9")).await;
    let call = format!(
        "select accepted, reason, used_before, used_after, remaining, period_end < '{next}'
        from increment_feature_usage_bulk(
          array[{c}], array['whatsapp_messages'], array[2], array['late'], array[null]::timestamptz[])"
    );
    assert_eq!(record(&client, &call).await, "(t,ok,4,6,4,t)");
    let drift = crate::support::records(&client, "select * from verify_usage()").await;
    assert!(drift.is_empty(), "{drift:#?}");
}

#[tokio::test]
async fn a_reservation_of_a_period_that_a_clock_went_back_from_is_settled_there() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-04-10 12:00Z").await;
    let c = limited(&client, 10).await;
    let reserve = format!("select reservation_id::text from reserve_feature_usage({c}, 'whatsapp_messages', 4)");
    let held: String = client.query_one(&reserve, &[]).await.unwrap().get(0);
    at(&client, "2026-03-10 12:00Z").await;
    client.execute("update secretaria.subscriptions set updated_at = now()", &[]).await.unwrap();
    increment(&client, &format!("{c}, 'whatsapp_messages', 10")).await;
    let commit =
        format!("select accepted, used_before, used_after, reserved from commit_reservation({c}, '{held}', 4)");
    assert_eq!(record(&client, &commit).await, "(t,0,4,0)");
    let used = |at: &str| format!("select used from check_feature_access({c}, 'whatsapp_messages', 0, '{at}')");
    assert_eq!(record(&client, &used("2026-03-10 12:00Z")).await, "(10)");
    assert_eq!(record(&client, &used("2026-04-10 12:00Z")).await, "(4)");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_row_that_is_made_again_knows_what_is_held() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let reserve = format!("select reservation_id from reserve_feature_usage({c}, 'whatsapp_messages', 4)");
    let held: uuid::Uuid = client.query_one(&reserve, &[]).await.unwrap().get(0);
    let status = |status: &str| {
        format!("update secretaria.features_catalog set status = '{status}' where feature = 'whatsapp_messages'")
    };
    for step in [
        "update secretaria.subscriptions set ended_at = now()",
        &status("archived"),
        "update secretaria.subscriptions set ended_at = null",
        &status("active"),
    ] {
        client.batch_execute(step).await.unwrap();
    }
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 10")).await,
        "(f,usage_limit_reached,f,0,0,6,0,{})"
    );
    client.batch_execute("truncate secretaria.feature_usage").await.unwrap();
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 6")).await, "(t,ok,f,0,6,0,0,{})");
    let settle = format!("select accepted, used_after, reserved from commit_reservation({c}, '{held}')");
    assert_eq!(record(&client, &settle).await, "(t,10,0)");
    assert_verifies(&client).await;
}

/// An advisory lock is anybody's to take, so no edit may wait for one.
#[tokio::test]
async fn a_login_of_no_rights_holds_up_no_edit() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let c = limited(&owner, 10).await;
    let api = database.connect_as("secretaria_api").await;
    api.batch_execute("select pg_advisory_lock(7012, 0), pg_advisory_lock(7012, 1)").await.unwrap();
    owner.batch_execute("set lock_timeout = '2 s'").await.unwrap();
    for step in [
        &format!("insert into secretaria.feature_flags values ({c}, 'reminders', false)"),
        "update secretaria.features_catalog set status = 'disabled' where feature = 'agents'",
        "select secretaria_reference.trim_usage_events()",
    ] {
        owner.batch_execute(step).await.unwrap_or_else(|it| panic!("{step}: {it:?}"));
    }
    api.batch_execute("begin").await.unwrap();
    let lock = "lock table secretaria.entitlement_epochs in share mode";
    assert_eq!(crate::support::refused(&api, lock, &[]).await, "42501");
}

/// Callers who may only use have keys of their own: a company can know what the processors' keys are derived from.
#[tokio::test]
async fn a_company_takes_no_key_that_the_river_will_book_under() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let c = limited(&owner, 10).await;
    let api = database.connect_as("secretaria_api").await;
    api.execute("select set_config('app.company_id', $1, false)", &[&c.to_string()]).await.unwrap();
    let own = format!("{c}, 'agents', 1, 'event'");
    assert_eq!(increment(&api, &own).await, "(t,ok,f,0,1,2,0,{})");
    assert_eq!(increment(&api, &own).await, "(t,duplicate,t,0,1,2,0,{})");
    let reserve = format!("select allowed from reserve_feature_usage({c}, 'agents', 1, '1 minute', 'turn')");
    assert_eq!(record(&api, &reserve).await, "(t)");
    let service = database.connect_as("secretaria_service").await;
    let fact = format!(
        "select reason from record_message_facts_bulk(array[{c}], '{{message_out}}', '{{event}}', array[now()])"
    );
    assert_eq!(record(&service, &fact).await, "(ok)");
    assert_eq!(record(&service, &reserve.replace("agents", "whatsapp_messages")).await, "(t)");
    assert_verifies(&owner).await;
}
