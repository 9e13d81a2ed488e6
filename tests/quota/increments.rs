//! What is counted, refused and counted once.

use tokio_postgres::Client;

use crate::support::{
    Database, assert_entitlements_verify, at, company, plan, record, records, refused, subscribe, subscribed,
};

/// A company on a plan of its own with so many messages and agents.
pub(crate) async fn limited(client: &Client, limit: i64) -> i64 {
    let company = company(client).await;
    let features = format!(
        "('whatsapp_messages', {limit}, false, null), ('agents', 3, false, null), ('ai_tokens', {limit}, true, null)"
    );
    subscribe(client, company, plan(client, &format!("plan_{company}"), &features).await).await;
    company
}

/// Gives a company another limit, as an operator would.
pub(crate) async fn limit(client: &Client, company: i64, feature: &str, limit: i64) {
    let upsert = "insert into secretaria.company_overrides (company_id, feature, limit_value, reason)
        values ($1, $2, $3, 'test')
        on conflict (company_id, feature) do update set limit_value = excluded.limit_value";
    client.execute(upsert, &[&company, &feature, &limit]).await.unwrap();
}

/// Accepted, reason, duplicate, before, after, remaining, overage, thresholds of one call of `increment_feature_usage`.
pub(crate) async fn increment(client: &Client, arguments: &str) -> String {
    let columns = "accepted, reason, duplicate, used_before, used_after, remaining, overage, thresholds_crossed";
    record(client, &format!("select {columns} from increment_feature_usage({arguments})")).await
}

/// Every counter is what its ledger lines come to, and every row what resolving says.
pub(crate) async fn assert_verifies(client: &Client) {
    let drift = records(client, "select * from verify_usage()").await;
    assert!(drift.is_empty(), "{drift:#?}");
    assert_entitlements_verify(client).await;
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

/// The thresholds that wait to be announced, as feature and threshold, in order.
pub(crate) async fn alerts(client: &Client, company: i64) -> Vec<String> {
    let waiting = format!(
        "select a.payload ->> 'feature', a.payload ->> 'threshold'
        from secretaria.outbox o,
          lateral (select convert_from(o.payload, 'UTF8')::jsonb -> 'payload' as payload) a
        where o.topic = 'alerts' and o.company_id = {company} and a.payload ? 'threshold'
        order by o.outbox_id"
    );
    records(client, &waiting).await
}

#[tokio::test]
async fn each_mistake_has_its_code() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    increment(&client, &format!("{c}, 'agents', 1, 'taken'")).await;
    let calls = [
        ("null, 'agents', 1".to_owned(), "22004"),
        (format!("{c}, null, 1"), "22004"),
        (format!("{c}, 'agents', null"), "22004"),
        (format!("{c}, 'agents', -1"), "22023"),
        (format!("{c}, 'agents', 1, null, null, 'maybe'"), "22023"),
        (format!("{c}, 'agents', 1, null, null, null"), "22023"),
        (format!("{c}, 'agents', 1, ''"), "22023"),
        (format!("{c}, 'agents', 1, null, now() - interval '36 days'"), "22023"),
        (format!("{c}, 'agents', 1, null, now() + interval '6 minutes'"), "22023"),
        (format!("{c}, 'ai_replies', 1"), "22023"),
        (format!("{c}, 'no_such_thing', 1"), "42704"),
        ("9999, 'agents', 1".to_owned(), "42704"),
        (format!("{c}, 'agents', 2, 'taken'"), "23505"),
        (format!("{c}, 'whatsapp_messages', 1, 'taken'"), "23505"),
        (format!("{c}, 'agents', 1, 'taken', null, 'cap'"), "23505"),
    ];
    for (arguments, code) in calls {
        let call = format!("select * from increment_feature_usage({arguments})");
        assert_eq!(refused(&client, &call, &[]).await, code, "{arguments}");
    }
    let api = database.connect_as("secretaria_api").await;
    api.execute("select set_config('app.company_id', $1, false)", &[&c.to_string()]).await.unwrap();
    for arguments in [format!("{}, 'agents', 1", c + 1), format!("{c}, 'agents', 1, null, null, 'allow'")] {
        let call = format!("select * from increment_feature_usage({arguments})");
        assert_eq!(refused(&api, &call, &[]).await, "42501", "{arguments}");
    }
    assert_eq!(increment(&api, &format!("{c}, 'agents', 1")).await, "(t,ok,f,1,2,1,0,{})");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn no_single_amount_can_bring_a_counter_near_the_largest_number() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let most = 100_000_000_000_000_i64;
    for call in [
        format!("select * from increment_feature_usage({c}, 'ai_tokens', {})", i64::MAX),
        format!("select * from increment_feature_usage({c}, 'ai_tokens', {})", most + 1),
        format!("select * from reserve_feature_usage({c}, 'ai_tokens', {})", most + 1),
    ] {
        assert_eq!(refused(&client, &call, &[]).await, "22003", "{call}");
    }
    assert_eq!(
        increment(&client, &format!("{c}, 'ai_tokens', {most}")).await,
        format!("(t,soft_limit_exceeded,f,0,{most},0,{},\"{{80,100}}\")", most - 10)
    );
}

#[tokio::test]
async fn a_repeated_call_is_answered_as_the_first_was() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 8, 'one'")).await, "(t,ok,f,0,8,2,0,{80})");
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 2, 'two'")).await, "(t,ok,f,8,10,0,0,{100})");
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 8, 'one'")).await,
        "(t,duplicate,t,0,8,2,0,{80})"
    );
    assert_eq!(alerts(&client, c).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_leaves_nothing() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (c, unsubscribed) = (limited(&client, 10).await, company(&client).await);
    increment(&client, &format!("{c}, 'agents', 3")).await;
    let written = "select (select count(*) from secretaria.usage_events) + (select count(*) from secretaria.outbox)";
    let before = count(&client, written).await;
    assert_eq!(increment(&client, &format!("{c}, 'agents', 1, 'key'")).await, "(f,usage_limit_reached,f,3,3,0,0,{})");
    assert_eq!(
        increment(&client, &format!("{unsubscribed}, 'agents', 1, 'key'")).await,
        "(f,no_subscription,f,0,0,,0,{})"
    );
    let raised = client.query_one(&format!("select increment_feature_usage_or_raise({c}, 'agents', 1)"), &[]).await;
    let problem = raised.unwrap_err();
    let problem = problem.as_db_error().unwrap();
    assert_eq!(problem.code().code(), "53400");
    let detail: serde_json::Value = serde_json::from_str(problem.detail().unwrap()).unwrap();
    assert_eq!(
        detail,
        serde_json::json!({"feature": "agents", "limit": 3, "used": 3, "requested": 1, "resets_at": null})
    );
    assert_eq!(count(&client, written).await, before);
    // The key was not used up by the refusal.
    limit(&client, c, "agents", 4).await;
    assert_eq!(increment(&client, &format!("{c}, 'agents', 1, 'key'")).await, "(t,ok,f,3,4,0,0,\"{80,100}\")");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_threshold_fires_at_its_exact_boundary_and_once() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    for (amount, crossed) in [(7, "{}"), (1, "{80}"), (1, "{}"), (0, "{}"), (1, "{100}"), (0, "{}")] {
        let answer = increment(&client, &format!("{c}, 'whatsapp_messages', {amount}")).await;
        assert!(answer.ends_with(&format!(",{crossed})")), "{amount}: {answer}");
    }
    // What goes down and up again has fired already.
    let down = format!(
        "select accepted, thresholds_crossed from adjust_feature_usage({c}, 'whatsapp_messages', -5, null, 'wrong')"
    );
    assert_eq!(record(&client, &down).await, "(t,{})");
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 5")).await, "(t,ok,f,5,10,0,0,{})");
    assert_eq!(alerts(&client, c).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
    // Both at once are two alerts; no limit and a limit of zero have none.
    assert_eq!(
        increment(&client, &format!("{c}, 'ai_tokens', 11")).await,
        "(t,soft_limit_exceeded,f,0,11,0,1,\"{80,100}\")"
    );
    limit(&client, c, "agents", 0).await;
    assert_eq!(increment(&client, &format!("{c}, 'agents', 1, null, null, 'allow'")).await, "(t,ok,f,0,1,0,1,{})");
    assert_eq!(alerts(&client, c).await.len(), 4);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_raised_limit_and_a_new_period_arm_the_thresholds_again() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 9")).await, "(t,ok,f,0,9,1,0,{80})");
    limit(&client, c, "whatsapp_messages", 20).await;
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 6")).await, "(t,ok,f,9,15,5,0,{})");
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 1")).await, "(t,ok,f,15,16,4,0,{80})");
    // Lowered to where the use is already above 80 %: that has been said.
    limit(&client, c, "whatsapp_messages", 17).await;
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 1")).await, "(t,ok,f,16,17,0,0,{100})");
    at(&client, "2026-03-10 12:00Z").await;
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 17")).await, "(t,ok,f,0,17,0,0,\"{80,100}\")");
    assert_eq!(alerts(&client, c).await.len(), 5);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn an_alert_is_a_record_the_relay_can_publish() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    increment(&client, &format!("{c}, 'whatsapp_messages', 8")).await;
    let row = client
        .query_one(
            "select key, placed_by, spread, event_id, headers, payload from secretaria.outbox
            where topic = 'alerts' order by outbox_id desc limit 1",
            &[],
        )
        .await
        .unwrap();
    let (key, payload): (Vec<u8>, Vec<u8>) = (row.get("key"), row.get("payload"));
    assert_eq!(
        (key, row.get::<_, &str>("placed_by"), row.get::<_, i16>("spread")),
        (c.to_string().into_bytes(), "", 2)
    );
    let headers = platform::dead_letter::headers_from_json(&row.get("headers"));
    let event: uuid::Uuid = row.get("event_id");
    let micros = "1770724800000000";
    let expected = [
        ("company", c.to_string()),
        ("event_id", event.to_string()),
        ("kind", "usage_threshold".to_owned()),
        ("schema", "1".to_owned()),
        ("epoch", "1".to_owned()),
        ("occurred_at", micros.to_owned()),
        ("received_at", micros.to_owned()),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.into_bytes())));
    let envelope: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(envelope["event_id"], event.to_string());
    assert_eq!(envelope["payload"]["threshold"], 80);
    assert_eq!(envelope["payload"]["used"], 8);
}

#[tokio::test]
async fn cap_books_what_fits_and_allow_books_all() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 7, null, null, 'cap'")).await,
        "(t,ok,f,0,7,3,0,{})"
    );
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 7, 'c', null, 'cap'")).await,
        "(t,ok,f,7,10,0,0,\"{80,100}\")"
    );
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 7, 'c', null, 'cap'")).await,
        "(t,duplicate,t,7,10,0,0,\"{80,100}\")"
    );
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 7, null, null, 'cap'")).await,
        "(f,usage_limit_reached,f,10,10,0,0,{})"
    );
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 7, null, null, 'allow'")).await,
        "(t,ok,f,10,17,0,7,{})"
    );
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 1")).await,
        "(f,usage_limit_reached,f,17,17,0,7,{})"
    );
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_limit_lowered_below_the_use_breaks_nothing_and_accepts_nothing_until_it_fits() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    increment(&client, &format!("{c}, 'agents', 3")).await;
    limit(&client, c, "agents", 1).await;
    assert_eq!(increment(&client, &format!("{c}, 'agents', 1")).await, "(f,usage_limit_reached,f,3,3,0,2,{})");
    for (delta, accepted) in [(-1, "f"), (-1, "f"), (-1, "t")] {
        client.query(&format!("select adjust_feature_usage({c}, 'agents', {delta}, null, 'left')"), &[]).await.unwrap();
        let answer = increment(&client, &format!("{c}, 'agents', 1")).await;
        assert!(answer.starts_with(&format!("({accepted},")), "{answer}");
    }
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_savepoint_takes_counter_ledger_and_alert_back_together() {
    let Some(database) = Database::create().await else { return };
    let mut client = database.connect().await;
    let c = limited(&client, 10).await;
    let mut outer = client.transaction().await.unwrap();
    let inner = outer.savepoint("attempt").await.unwrap();
    inner.query(&format!("select increment_feature_usage({c}, 'whatsapp_messages', 9, 'key')"), &[]).await.unwrap();
    inner.rollback().await.unwrap();
    outer.query(&format!("select increment_feature_usage({c}, 'whatsapp_messages', 2, 'other')"), &[]).await.unwrap();
    outer.commit().await.unwrap();
    assert!(alerts(&client, c).await.is_empty());
    // The key is free again, and the threshold fires when it is really passed.
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 6, 'key'")).await, "(t,ok,f,2,8,2,0,{80})");
    assert_eq!(alerts(&client, c).await.len(), 1);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_period_rolls_with_its_first_write_and_late_events_amend_the_closed_one() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    increment(&client, &format!("{c}, 'whatsapp_messages', 4")).await;
    at(&client, "2026-02-28 13:00Z").await;
    assert_eq!(increment(&client, &format!("{c}, 'whatsapp_messages', 1")).await, "(t,ok,f,0,1,9,0,{})");
    let late = format!("{c}, 'whatsapp_messages', 2, 'late', '2026-02-28 12:59Z'");
    assert_eq!(increment(&client, &late).await, "(t,ok,f,4,6,4,0,{})");
    assert_eq!(increment(&client, &late).await, "(t,duplicate,t,4,6,4,0,{})");
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 5, null, '2026-02-28 12:59Z'")).await,
        "(f,usage_limit_reached,f,6,6,4,0,{})"
    );
    // Before anybody had used it there was a period too.
    assert_eq!(
        increment(&client, &format!("{c}, 'whatsapp_messages', 2, null, '2026-01-30 12:59Z'")).await,
        "(t,ok,f,0,2,8,0,{})"
    );
    let closed = "select period_start, period_end, used from secretaria.feature_usage_periods
        where feature = 'whatsapp_messages' order by 1";
    assert_eq!(
        records(&client, closed).await,
        [
            "(\"2025-12-31 13:00:00+00\",\"2026-01-31 13:00:00+00\",2)",
            "(\"2026-01-31 13:00:00+00\",\"2026-02-28 13:00:00+00\",6)",
        ]
    );
    assert_verifies(&client).await;
    // Only who manages may write the past.
    let api = database.connect_as("secretaria_api").await;
    api.execute("select set_config('app.company_id', $1, false)", &[&c.to_string()]).await.unwrap();
    let yesterday =
        format!("select * from increment_feature_usage({c}, 'whatsapp_messages', 1, null, now() - interval '34 days')");
    assert_eq!(refused(&api, &yesterday, &[]).await, "42501");
}

#[tokio::test]
async fn bulk_answers_item_by_item_and_one_bad_item_spoils_nothing() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (a, b) = (limited(&client, 10).await, subscribed(&client).await);
    increment(&client, &format!("{b}, 'agents', 1, 'known', null, 'allow'")).await;
    let call = format!(
        "select ord, accepted, reason, duplicate, used_before, used_after, remaining, overage, thresholds_crossed
        from increment_feature_usage_bulk(
          array[{a}, {a}, {a}, {a}, {a}, {b}, {b}, {a}, null, 9999],
          array['whatsapp_messages', 'whatsapp_messages', 'no_such_thing', 'whatsapp_messages', 'whatsapp_messages',
            'agents', 'agents', 'whatsapp_messages', 'agents', 'agents'],
          array[7, 5, 1, -1, 5, 1, 2, {max}, 1, 1],
          array['1', '2', '3', '4', '2', 'known', 'known', '8', '9', '10'],
          array_fill(null::timestamptz, array[10]))",
        max = i64::MAX
    );
    let answers = [
        "(1,t,ok,f,0,7,3,0,{})",
        "(2,t,ok,f,7,12,0,2,\"{80,100}\")",
        "(3,f,feature_not_found,f,,,,0,{})",
        "(4,f,invalid_amount,f,,,,0,{})",
        "(5,t,duplicate,t,,,0,0,{})",
        "(6,t,duplicate,t,0,1,2,0,{})",
        "(7,f,key_conflict,f,,,,0,{})",
        "(8,f,overflow,f,,,,0,{})",
        "(9,f,invalid_argument,f,,,,0,{})",
        "(10,f,feature_not_found,f,,,,0,{})",
    ];
    assert_eq!(records(&client, &call).await, answers);
    assert_eq!(alerts(&client, a).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
    assert_verifies(&client).await;
    for (arguments, code) in [
        ("array[1], array['agents'], array[1], array['k'], null", "22004"),
        ("array[1], array['agents'], array[1, 2], array['k'], array[now()]", "22023"),
    ] {
        let call = format!("select * from increment_feature_usage_bulk({arguments})");
        assert_eq!(refused(&client, &call, &[]).await, code);
    }
    let api = database.connect_as("secretaria_api").await;
    assert_eq!(refused(&api, &call, &[]).await, "42501");
}
