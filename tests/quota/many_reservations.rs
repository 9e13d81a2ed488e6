//! Headroom held and given back for many calls at once: what the functions for processors say, and that they wait in
//! one order.

use futures_util::future::join_all;
use tokio_postgres::Client;

use crate::increments::{assert_verifies, increment, limited};
use crate::support::{Database, at, record, records, refused};

/// Place, allowed and reason of each, in order.
async fn reserve(client: &Client, asked: &[(i64, i64, &str)]) -> Vec<String> {
    let companies: Vec<i64> = asked.iter().map(|it| it.0).collect();
    let amounts: Vec<i64> = asked.iter().map(|it| it.1).collect();
    let keys: Vec<&str> = asked.iter().map(|it| it.2).collect();
    let sql = "select allowed || ' ' || reason
               from secretaria_reference._reserve_many($1, 'whatsapp_messages', $2, '1 minute', $3)
               order by ord";
    client.query(sql, &[&companies, &amounts, &keys]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn release(client: &Client, keys: &[(i64, &str)]) {
    let (companies, keys): (Vec<i64>, Vec<&str>) = keys.iter().copied().unzip();
    client.query("select secretaria_reference._release_many($1, $2)", &[&companies, &keys]).await.unwrap();
}

/// Used and reserved of each company.
async fn counters(client: &Client) -> Vec<String> {
    let sql = "select used, reserved from secretaria.feature_usage
               where feature = 'whatsapp_messages' and slot = 0
               order by company_id";
    records(client, sql).await
}

#[tokio::test]
async fn each_of_many_is_answered_as_if_it_were_the_only_one() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (roomy, near, suspended) =
        (limited(&client, 100).await, limited(&client, 10).await, limited(&client, 10).await);
    let suspend = "update secretaria.subscriptions set status = 'suspended' where company_id = $1";
    client.execute(suspend, &[&suspended]).await.unwrap();
    let service = database.connect_as("secretaria_service").await;
    let asked = [
        (near, 6, "first"),
        (roomy, 30, "a"),
        (suspended, 1, "x"),
        (near, 6, "second"),
        (roomy, 30, "b"),
        (near, 4, "third"),
    ];
    let answers = reserve(&service, &asked).await;
    assert_eq!(answers[..2], ["true ok", "true ok"]);
    assert!(answers[2].starts_with("false "), "{answers:?}");
    assert_eq!(answers[3..], ["false usage_limit_reached", "true ok", "true ok"]);
    assert_eq!(counters(&client).await, ["(0,60)", "(0,10)", "(0,0)"]);
    // The same keys again hold nothing more.
    assert_eq!(reserve(&service, &asked).await, answers);
    assert_eq!(counters(&client).await, ["(0,60)", "(0,10)", "(0,0)"]);
    release(&service, &[(roomy, "a"), (roomy, "b"), (near, "first"), (near, "never heard of")]).await;
    assert_eq!(counters(&client).await, ["(0,0)", "(0,4)", "(0,0)"]);
    release(&service, &[(roomy, "a"), (near, "third"), (near, "first")]).await;
    assert_eq!(counters(&client).await, ["(0,0)", "(0,0)", "(0,0)"]);
    assert_eq!(reserve(&service, &[(roomy, 30, "a")]).await, ["false reservation_ended"]);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_counter_with_shards_or_of_a_period_that_is_over_holds_what_fits() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    client.batch_execute("set secretaria.slots = 'on'").await.unwrap();
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 4")).await, "(t,ok,f,0,4,6,0,{})");
    assert_eq!(reserve(&client, &[(c, 4, "a"), (c, 2, "b")]).await, ["true ok", "true ok"]);
    assert_eq!(reserve(&client, &[(c, 1, "c")]).await, ["false usage_limit_reached"]);
    at(&client, "2100-02-01").await;
    assert_eq!(reserve(&client, &[(c, 5, "d"), (c, 5, "e")]).await, ["true ok", "true ok"]);
    let held = format!(
        "select reserved from secretaria.feature_usage where company_id = {c} and slot = 0
                        and feature = 'whatsapp_messages'"
    );
    assert_eq!(record(&client, &held).await, "(10)");
    // What was held in the period before is none of this one's.
    release(&client, &[(c, "a"), (c, "b"), (c, "d")]).await;
    assert_eq!(record(&client, &held).await, "(5)");
}

#[tokio::test]
async fn many_at_once_over_the_same_companies_wait_in_one_order() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let mut companies = Vec::new();
    for _ in 0..8 {
        companies.push(limited(&client, 1_000_000).await);
    }
    join_all((0..8).map(async |who: usize| {
        let client = database.connect_as("secretaria_service").await;
        for round in 0..20 {
            let keys: Vec<String> = (0..8).map(|it| format!("{who}/{round}/{it}")).collect();
            // Each begins with another company.
            let asked: Vec<(i64, i64, &str)> =
                keys.iter().enumerate().map(|(at, key)| (companies[(at + who) % 8], 7, key.as_str())).collect();
            assert_eq!(reserve(&client, &asked).await, ["true ok"; 8]);
            let held: Vec<(i64, &str)> = asked.iter().rev().map(|it| (it.0, it.2)).collect();
            release(&client, &held).await;
        }
    }))
    .await;
    assert_eq!(counters(&client).await, ["(0,0)"; 8]);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn they_are_the_processors_alone() {
    let Some(database) = Database::create().await else { return };
    let c = limited(&database.connect().await, 10).await;
    for role in ["secretaria_api", "secretaria_operator"] {
        let other = database.connect_as(role).await;
        let reserve =
            "select * from secretaria_reference._reserve_many($1, 'whatsapp_messages', '{1}', '1 minute', '{k}')";
        assert_eq!(refused(&other, reserve, &[&vec![c]]).await, "42501");
        let release = "select secretaria_reference._release_many($1, '{k}')";
        assert_eq!(refused(&other, release, &[&vec![c]]).await, "42501");
    }
}
