//! A limit that is lowered below what is used says so, once per threshold, period and limit, in the same transaction.

use tokio_postgres::Client;

use crate::increments::{alerts, assert_verifies, increment, limit};
use crate::support::{Database, at, company, plan, records, subscribe, subscribed};

const MESSAGES: &str = "whatsapp_messages";

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|it| panic!("{sql}: {it:?}"));
}

/// Threshold, limit and use of every alert of the feature, in order.
async fn told(client: &Client, company: i64, feature: &str) -> Vec<String> {
    let waiting = format!(
        "select a.payload ->> 'threshold', a.payload ->> 'limit', a.payload ->> 'used'
        from secretaria.outbox o,
          lateral (select convert_from(o.payload, 'UTF8')::jsonb -> 'payload' as payload) a
        where o.topic = 'alerts' and o.company_id = {company} and a.payload ->> 'feature' = '{feature}'
        order by o.outbox_id"
    );
    records(client, &waiting).await
}

async fn used(client: &Client, limit_value: i64, amount: i64) -> i64 {
    let company = subscribed(client).await;
    limit(client, company, MESSAGES, limit_value).await;
    let answer = increment(client, &format!("{company}, '{MESSAGES}', {amount}")).await;
    assert!(answer.starts_with("(t,"), "{answer}");
    company
}

#[tokio::test]
async fn an_override_below_the_use_is_announced_in_its_own_transaction() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = used(&client, 100, 70).await;
    run(&client, "begin").await;
    limit(&client, c, MESSAGES, 50).await;
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,50,70)", "(100,50,70)"]);
    run(&client, "rollback").await;
    assert_eq!(told(&client, c, MESSAGES).await, [""; 0]);

    limit(&client, c, MESSAGES, 80).await;
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,80,70)"]);
    limit(&client, c, MESSAGES, 50).await;
    assert_eq!(told(&client, c, MESSAGES).await[1..], ["(100,50,70)"], "80 % has been said");
    assert!(increment(&client, &format!("{c}, '{MESSAGES}', 1")).await.starts_with("(f,usage_limit_reached,"));
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_limit_that_goes_up_and_down_is_announced_once() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = used(&client, 100, 70).await;
    for limit_value in [50, 50, 40, 200, 50, 45, 200, 50] {
        limit(&client, c, MESSAGES, limit_value).await;
    }
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,50,70)", "(100,50,70)"]);
    // A greater limit that is passed too has not been announced; use passes it first.
    limit(&client, c, MESSAGES, 200).await;
    increment(&client, &format!("{c}, '{MESSAGES}', 90")).await;
    limit(&client, c, MESSAGES, 120).await;
    assert_eq!(told(&client, c, MESSAGES).await[2..], ["(80,200,160)", "(100,120,160)"]);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_limit_where_there_was_none_and_a_limit_of_zero_are_announced_to_who_used_something() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (c, idle) = (company(&client).await, subscribed(&client).await);
    let without =
        plan(&client, "without", "('whatsapp_messages', null, false, null), ('agents', 9, false, null)").await;
    subscribe(&client, c, without).await;
    increment(&client, &format!("{c}, '{MESSAGES}', 70")).await;
    limit(&client, c, MESSAGES, 60).await;
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,60,70)", "(100,60,70)"]);
    increment(&client, &format!("{c}, 'agents', 1")).await;
    limit(&client, c, "agents", 0).await;
    assert_eq!(told(&client, c, "agents").await, ["(80,0,1)", "(100,0,1)"]);
    limit(&client, idle, "agents", 0).await;
    assert_eq!(alerts(&client, idle).await, [""; 0]);
}

#[tokio::test]
async fn a_smaller_plan_is_announced_when_it_begins() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = company(&client).await;
    let feature = |limit: i64| format!("('whatsapp_messages', {limit}, false, null), ('agents', {limit}, false, null)");
    let large = plan(&client, "large", &feature(100)).await;
    let small = plan(&client, "small", &feature(60)).await;
    at(&client, "2026-02-10 12:00Z").await;
    let subscription = subscribe(&client, c, large).await;
    for name in [MESSAGES, "agents"] {
        increment(&client, &format!("{c}, '{name}', 50")).await;
    }
    let change = |version: i64, policy: &str| {
        format!("select change_subscription_plan({c}, '{subscription}', {version}, '{policy}')")
    };
    run(&client, &change(small, "immediate")).await;
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,60,50)"]);
    run(&client, &change(large, "immediate")).await;
    run(&client, &change(small, "end_of_term")).await;
    assert_eq!(told(&client, c, MESSAGES).await.len(), 1, "nothing has changed yet");

    // At the end of the term the messages of a new month count; agents are never reset.
    increment(&client, &format!("{c}, 'agents', 20")).await;
    assert_eq!(told(&client, c, "agents").await, ["(80,60,50)"]);
    at(&client, "2026-03-10 12:00Z").await;
    assert!(increment(&client, &format!("{c}, 'agents', 1")).await.starts_with("(f,usage_limit_reached,"));
    assert_eq!(told(&client, c, "agents").await, ["(80,60,50)", "(100,60,70)"]);
    assert_eq!(told(&client, c, MESSAGES).await.len(), 1);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn credits_that_are_taken_back_or_run_out_are_announced() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let (voided, expired) = (subscribed(&client).await, subscribed(&client).await);
    for c in [voided, expired] {
        limit(&client, c, MESSAGES, 100).await;
        run(
            &client,
            &format!(
                "select grant_credits({c}, '{MESSAGES}', 50, 100::smallint, null, '2026-02-11 12:00Z', 'credits')"
            ),
        )
        .await;
        increment(&client, &format!("{c}, '{MESSAGES}', 90")).await;
    }
    assert_eq!(told(&client, voided, MESSAGES).await, [""; 0], "90 of 150");
    run(&client, &format!("select void_grant({voided}, grant_id) from usage_grants where company_id = {voided}")).await;
    assert_eq!(told(&client, voided, MESSAGES).await, ["(80,100,90)"]);
    at(&client, "2026-02-12 12:00Z").await;
    increment(&client, &format!("{expired}, '{MESSAGES}', 1")).await;
    assert_eq!(told(&client, expired, MESSAGES).await, ["(80,100,90)"], "by the next count");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn what_was_lowered_while_nothing_was_allowed_is_announced_when_it_counts_again() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = used(&client, 100, 70).await;
    let status = |status: &str| {
        format!(
            "select set_subscription_status(company_id, subscription_id, '{status}') from subscriptions
                 where company_id = {c}"
        )
    };
    run(&client, "update company_overrides set mode = 'stack', limit_value = 1000").await;
    run(&client, &status("suspended")).await;
    run(&client, "update company_overrides set mode = 'replace', limit_value = 60, allowed = false").await;
    assert_eq!(told(&client, c, MESSAGES).await, [""; 0]);
    run(&client, &status("active")).await;
    run(&client, "update company_overrides set allowed = true").await;
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,60,70)", "(100,60,70)"]);
    for _ in 0..2 {
        run(&client, &status("suspended")).await;
        run(&client, &status("active")).await;
    }
    assert_eq!(told(&client, c, MESSAGES).await.len(), 2);
}

#[tokio::test]
async fn a_new_period_begins_with_nothing_announced_and_nothing_to_announce() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = used(&client, 100, 70).await;
    limit(&client, c, MESSAGES, 80).await;
    at(&client, "2026-03-10 12:00Z").await;
    limit(&client, c, MESSAGES, 40).await;
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,80,70)"]);
    increment(&client, &format!("{c}, '{MESSAGES}', 20")).await;
    limit(&client, c, MESSAGES, 20).await;
    assert_eq!(told(&client, c, MESSAGES).await[1..], ["(80,20,20)", "(100,20,20)"]);
}

#[tokio::test]
async fn what_was_counted_in_further_rows_counts_for_the_new_limit() {
    let Some(database) = Database::create().await else { return };
    database.set_slots("on").await;
    let client = database.connect().await;
    let c = used(&client, 10_000, 1).await;
    for _ in 0..9 {
        increment(&client, &format!("{c}, '{MESSAGES}', 1")).await;
    }
    let sharded = "select count(*) from feature_usage where slot > 0 and used > 0";
    assert!(client.query_one(sharded, &[]).await.unwrap().get::<_, i64>(0) > 0, "no shard was used");
    limit(&client, c, MESSAGES, 10).await;
    assert_eq!(told(&client, c, MESSAGES).await, ["(80,10,10)", "(100,10,10)"]);
}

#[tokio::test]
async fn edits_and_increments_at_once_announce_once() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = used(&client, 100, 79).await;
    let mut editing = Vec::new();
    for it in 0..8 {
        let client = database.connect().await;
        editing.push(async move {
            if it % 2 == 0 {
                limit(&client, c, MESSAGES, 60 + it).await;
            } else {
                let count = format!("select increment_feature_usage({c}, '{MESSAGES}', 1, null, null, 'allow')");
                client.batch_execute(&count).await.unwrap();
            }
        });
    }
    futures_util::future::join_all(editing).await;
    let kinds = "select threshold, count(*) from (
          select convert_from(payload, 'UTF8')::jsonb #>> '{payload,threshold}' as threshold,
            convert_from(payload, 'UTF8')::jsonb #>> '{payload,limit}' as limit_value
          from outbox where topic = 'alerts' and convert_from(payload, 'UTF8')::jsonb -> 'payload' ? 'threshold'
        ) a group by threshold, limit_value having count(*) > 1";
    assert_eq!(records(&client, kinds).await, [""; 0], "one for each threshold and limit");
    let hundred = told(&client, c, MESSAGES).await.iter().filter(|it| it.starts_with("(100,")).count();
    assert!(hundred >= 1);
    assert_verifies(&client).await;
}
