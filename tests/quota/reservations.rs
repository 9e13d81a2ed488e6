//! Headroom held for a call, settled afterwards, given back, or expired.

use tokio_postgres::Client;

use crate::increments::{assert_verifies, increment, limited};
use crate::support::{Database, at, record, refused};

async fn reserve(client: &Client, arguments: &str) -> Option<uuid::Uuid> {
    let call = format!("select reservation_id from reserve_feature_usage({arguments})");
    client.query_one(&call, &[]).await.unwrap().get(0)
}

/// Accepted, reason, duplicate, before, after, reserved, remaining of a commit.
async fn commit(client: &Client, arguments: &str) -> String {
    let columns = "accepted, reason, duplicate, used_before, used_after, reserved, remaining";
    record(client, &format!("select {columns} from commit_reservation({arguments})")).await
}

async fn counter(client: &Client, company: i64) -> String {
    let counter =
        "select used, reserved from secretaria.feature_usage where feature = 'whatsapp_messages' and company_id";
    record(client, &format!("{counter} = {company}")).await
}

/// A caller who may use but not manage: such calls can be refused.
async fn api(database: &Database, company: i64) -> Client {
    let api = database.connect_as("secretaria_api").await;
    api.execute("select set_config('app.company_id', $1, false)", &[&company.to_string()]).await.unwrap();
    api
}

#[tokio::test]
async fn what_is_held_is_headroom_that_no_other_call_gets() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let answer =
        "select allowed, reason, feature_kind, limit_value, used, reserved, remaining, overage, soft_limit, source
        from reserve_feature_usage";
    let call = format!("{answer}({c}, 'whatsapp_messages', 6, '1 minute', 'key')");
    assert_eq!(record(&client, &call).await, "(t,ok,metered,10,0,6,4,0,f,plan)");
    let (first, again) = (
        reserve(&client, &format!("{c}, 'whatsapp_messages', 6, '1 minute', 'key'")).await,
        reserve(&client, &format!("{c}, 'whatsapp_messages', 6, '1 hour', 'key'")).await,
    );
    assert!(first.is_some() && first == again);
    assert_eq!(counter(&client, c).await, "(0,6)");
    assert_eq!(
        record(&client, &format!("{answer}({c}, 'whatsapp_messages', 5)")).await,
        "(f,usage_limit_reached,metered,10,0,6,4,0,f,plan)"
    );
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 5")).await,
        "(f,usage_limit_reached,f,0,0,4,0,{})"
    );
    // Nothing is held where there is no right: that is an answer too.
    client.execute("update secretaria.subscriptions set status = 'suspended'", &[]).await.unwrap();
    assert_eq!(reserve(&client, &format!("{c}, 'whatsapp_messages', 1")).await, None);
}

#[tokio::test]
async fn a_commit_books_less_more_that_fits_and_not_more_than_that() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let api = api(&database, c).await;
    let less = reserve(&api, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    assert_eq!(commit(&api, &format!("{c}, '{less}', 1")).await, "(t,ok,f,0,1,0,9)");
    let more = reserve(&api, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    assert_eq!(commit(&api, &format!("{c}, '{more}', 6")).await, "(t,ok,f,1,7,0,3)");
    let too_much = reserve(&api, &format!("{c}, 'whatsapp_messages', 2")).await.unwrap();
    assert_eq!(commit(&api, &format!("{c}, '{too_much}', 4")).await, "(f,usage_limit_reached,f,7,7,2,1)");
    assert_eq!(counter(&client, c).await, "(7,2)", "a refusal leaves it held");
    // Who manages says what has happened.
    assert_eq!(commit(&client, &format!("{c}, '{too_much}', 4")).await, "(t,ok,f,7,11,0,0)");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_reservation_ends_once() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let id = reserve(&client, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    assert_eq!(commit(&client, &format!("{c}, '{id}'")).await, "(t,ok,f,0,4,0,6)");
    assert_eq!(commit(&client, &format!("{c}, '{id}', 4")).await, "(t,duplicate,t,0,4,0,6)");
    assert_eq!(refused(&client, &format!("select commit_reservation({c}, '{id}', 3)"), &[]).await, "55000");
    assert_eq!(record(&client, &format!("select release_reservation({c}, '{id}')")).await, "(f)");
    let id = reserve(&client, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    assert_eq!(record(&client, &format!("select release_reservation({c}, '{id}')")).await, "(t)");
    assert_eq!(record(&client, &format!("select release_reservation({c}, '{id}')")).await, "(f)");
    assert_eq!(refused(&client, &format!("select commit_reservation({c}, '{id}')"), &[]).await, "55000");
    assert_eq!(counter(&client, c).await, "(4,0)");
    // Another session booked the key meanwhile: that is this call, and what it held is given back.
    increment(&client, &format!("{c}, 'agents', 1, 'key'")).await;
    let id = reserve(&client, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    assert_eq!(refused(&client, &format!("select commit_reservation({c}, '{id}', 4, 'key')"), &[]).await, "23505");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn an_expired_reservation_gives_way_and_can_no_longer_be_settled() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    let id = reserve(&client, &format!("{c}, 'whatsapp_messages', 10, '1 minute'")).await.unwrap();
    at(&client, "2026-02-10 12:01Z").await;
    assert_eq!(refused(&client, &format!("select commit_reservation({c}, '{id}')"), &[]).await, "55000");
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 3")).await, "(t,ok,f,0,3,7,0,{})");
    assert_eq!(counter(&client, c).await, "(3,0)");
    assert_eq!(refused(&client, &format!("select commit_reservation({c}, '{id}')"), &[]).await, "55000");
    // A reserve ends expired ones in the same way, and so does the sweep, in batches.
    reserve(&client, &format!("{c}, 'whatsapp_messages', 7, '1 minute'")).await.unwrap();
    at(&client, "2026-02-10 12:03Z").await;
    for _ in 0..3 {
        reserve(&client, &format!("{c}, 'whatsapp_messages', 2, '1 minute'")).await.unwrap();
    }
    at(&client, "2026-02-10 12:05Z").await;
    assert_eq!(record(&client, "select expire_reservations(2)").await, "(2)");
    assert_eq!(record(&client, "select expire_reservations()").await, "(1)");
    assert_eq!(counter(&client, c).await, "(3,0)");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_reservation_belongs_to_the_period_it_was_made_in() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-28 12:59Z").await;
    let c = limited(&client, 10).await;
    let committed = reserve(&client, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    let released = reserve(&client, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    at(&client, "2026-02-28 13:00Z").await;
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 10")).await, "(t,ok,f,0,10,0,0,\"{80,100}\")");
    assert_eq!(commit(&client, &format!("{c}, '{committed}', 5")).await, "(t,ok,f,0,5,0,5)");
    assert_eq!(record(&client, &format!("select release_reservation({c}, '{released}')")).await, "(t)");
    assert_eq!(counter(&client, c).await, "(10,0)");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn each_mistake_has_its_code() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let id = reserve(&client, &format!("{c}, 'whatsapp_messages', 1, '1 minute', 'taken'")).await.unwrap();
    let unknown = uuid::Uuid::nil();
    for (call, code) in [
        ("reserve_feature_usage(null, 'agents', 1)".to_owned(), "22004"),
        (format!("reserve_feature_usage({c}, null, 1)"), "22004"),
        (format!("reserve_feature_usage({c}, 'agents', null)"), "22004"),
        (format!("reserve_feature_usage({c}, 'agents', 1, null)"), "22004"),
        (format!("reserve_feature_usage({c}, 'agents', 0)"), "22023"),
        (format!("reserve_feature_usage({c}, 'agents', 1, '25 hours')"), "22023"),
        (format!("reserve_feature_usage({c}, 'agents', 1, '0 hours')"), "22023"),
        (format!("reserve_feature_usage({c}, 'ai_replies', 1)"), "22023"),
        (format!("reserve_feature_usage({c}, 'no_such_thing', 1)"), "42704"),
        (format!("reserve_feature_usage({c}, 'whatsapp_messages', 2, '1 minute', 'taken')"), "23505"),
        (format!("commit_reservation({c}, null)"), "22004"),
        (format!("commit_reservation({c}, '{id}', -1)"), "22023"),
        (format!("commit_reservation({c}, '{unknown}')"), "42704"),
        (format!("commit_reservation({}, '{id}')", c + 1), "42704"),
        (format!("release_reservation(null, '{id}')"), "22004"),
        (format!("release_reservation({c}, '{unknown}')"), "42704"),
        ("expire_reservations(0)".to_owned(), "22023"),
    ] {
        assert_eq!(refused(&client, &format!("select * from {call}"), &[]).await, code, "{call}");
    }
    let api = api(&database, c + 1).await;
    for call in [
        format!("commit_reservation({c}, '{id}')"),
        format!("release_reservation({c}, '{id}')"),
        "expire_reservations()".to_owned(),
    ] {
        assert_eq!(refused(&api, &format!("select * from {call}"), &[]).await, "42501", "{call}");
    }
}

#[tokio::test]
async fn a_key_whose_reservation_ended_holds_nothing_and_says_so() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let id = reserve(&client, &format!("{c}, 'whatsapp_messages', 4, '1 minute', 'key'")).await.unwrap();
    assert_eq!(record(&client, &format!("select release_reservation({c}, '{id}')")).await, "(t)");
    let again = format!(
        "select reservation_id, allowed, reason
         from reserve_feature_usage({c}, 'whatsapp_messages', 4, '1 minute', 'key')"
    );
    assert_eq!(record(&client, &again).await, "(,f,reservation_ended)");
    assert_eq!(counter(&client, c).await, "(0,0)");
}

#[tokio::test]
async fn a_period_that_goes_and_comes_back_has_its_reservations_again() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let id = reserve(&client, &format!("{c}, 'whatsapp_messages', 4")).await.unwrap();
    client.execute("update secretaria.subscriptions set ended_at = now()", &[]).await.unwrap();
    assert_eq!(counter(&client, c).await, "(0,0)");
    client.execute("update secretaria.subscriptions set ended_at = null", &[]).await.unwrap();
    assert_eq!(counter(&client, c).await, "(0,4)");
    assert_eq!(commit(&client, &format!("{c}, '{id}', 3")).await, "(t,ok,f,0,3,0,7)");
    assert_verifies(&client).await;
}
