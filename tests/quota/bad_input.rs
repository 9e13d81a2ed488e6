//! What bad input gets, function by function: its SQLSTATE or its answer, and nothing is changed by it. What happens to
//! open sessions on bad days is in `bad_days`.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::increments::{assert_verifies, increment, limit, limited};
use crate::support::{Database, company, plan, record, records, refused, starter, subscribe, subscribed};

/// Every function, called as it should be, and the arguments that must not be null (by position).
const CALLS: &[(&str, &[&str], &[usize])] = &[
    ("check_feature_access", &["{c}", "'agents'", "1"], &[0, 1, 2]),
    ("has_feature", &["{c}", "'agents'"], &[0, 1]),
    ("check_feature_access_many", &["{c}", "array['agents']"], &[0, 1]),
    ("entitlements", &["{c}"], &[0]),
    ("get_static_entitlement", &["{c}", "'support_level'"], &[0, 1]),
    ("increment_feature_usage", &["{c}", "'agents'", "1", "null", "null", "'reject'"], &[0, 1, 2]),
    ("increment_feature_usage_or_raise", &["{c}", "'agents'", "1"], &[0, 1, 2]),
    (
        "increment_feature_usage_bulk",
        &["array[{c}]", "array['agents']", "array[1]", "array['k']", "array[now()]"],
        &[0, 1, 2, 3, 4],
    ),
    ("increment_ai_usage", &["{c}", "'m'", "2", "1", "0"], &[0, 1, 2, 3, 4]),
    (
        "increment_ai_usage_bulk",
        &["array[{c}]", "array['m']", "array[2]", "array[1]", "array[0]", "array['a']", "array[now()]"],
        &[0, 1, 2, 3, 4, 5, 6],
    ),
    ("record_message_facts_bulk", &["array[{c}]", "array['message_out']", "array['f']", "array[now()]"], &[0, 1, 2, 3]),
    ("reserve_feature_usage", &["{c}", "'agents'", "1", "'1 minute'"], &[0, 1, 2, 3]),
    ("commit_reservation", &["{c}", "'{r}'"], &[0, 1]),
    ("release_reservation", &["{c}", "'{r}'"], &[0, 1]),
    ("expire_reservations", &["10"], &[0]),
    ("adjust_feature_usage", &["{c}", "'agents'", "1", "null", "'counted again'"], &[0, 1, 2, 4]),
    ("set_feature_usage", &["{c}", "'agents'", "1", "'counted again'"], &[0, 1, 2, 3]),
    ("grant_credits", &["{c}", "'agents'", "1", "100::smallint"], &[0, 1, 2, 3]),
    ("void_grant", &["{c}", "'{g}'"], &[0, 1]),
    ("trim_usage_events", &["'35 days'", "10"], &[0, 1]),
    ("preview_plan_change", &["{c}", "'{s}'", "{v}"], &[0, 1, 2]),
    ("change_subscription_plan", &["{c}", "'{s}'", "{v}", "'immediate'", "'none'"], &[0, 1, 2, 3, 4]),
    ("set_subscription_status", &["{c}", "'{s}'", "'active'"], &[0, 1, 2]),
    ("cancel_subscription", &["{c}", "'{s}'", "true"], &[0, 1, 2]),
    ("resume_subscription", &["{c}", "'{s}'"], &[0, 1]),
    ("create_subscription", &["{other}", "{v}"], &[0, 1]),
    ("current_period", &["now()", "'month'", "'UTC'", "now()"], &[0, 1, 2, 3]),
];

/// A company with a subscription, a reservation and a grant, and another without any.
struct Known {
    names: Vec<(&'static str, String)>,
}

impl Known {
    async fn make(client: &Client) -> Known {
        let (c, other) = (company(client).await, company(client).await);
        let version = starter(client).await;
        let subscription = subscribe(client, c, version).await;
        let one = async |call: String| client.query_one(&call, &[]).await.unwrap().get::<_, uuid::Uuid>(0).to_string();
        let reservation = one(format!("select reservation_id from reserve_feature_usage({c}, 'ai_tokens', 5)")).await;
        let grant = one(format!("select grant_credits({c}, 'whatsapp_messages', 5)")).await;
        let names = vec![
            ("{c}", c.to_string()),
            ("{other}", other.to_string()),
            ("{v}", version.to_string()),
            ("{s}", subscription.to_string()),
            ("{r}", reservation),
            ("{g}", grant),
        ];
        Known { names }
    }

    fn fill(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    fn call(&self, function: &str, arguments: &[&str]) -> String {
        self.fill(&format!("select * from {function}({})", arguments.join(", ")))
    }
}

/// All that any call could have changed.
async fn everything(client: &Client) -> Vec<String> {
    let mut found = Vec::new();
    for table in [
        "feature_usage",
        "feature_usage_periods",
        "usage_events",
        "usage_totals",
        "usage_reservations",
        "usage_grants",
        "subscriptions",
        "subscription_events",
        "ai_usage_by_model",
        "audit_logs",
        "outbox",
    ] {
        found.extend(records(client, &format!("select * from secretaria.{table} t order by t::text")).await);
    }
    found
}

#[tokio::test]
async fn a_null_where_there_must_be_something_is_22004_everywhere() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let known = Known::make(&client).await;
    let before = everything(&client).await;
    let mut wrong = Vec::new();
    for (function, arguments, required) in CALLS {
        for &position in *required {
            let mut arguments = arguments.to_vec();
            arguments[position] = "null";
            let call = known.call(function, &arguments);
            let code = client.query(&call, &[]).await.err().and_then(|it| it.code().cloned());
            if code.as_ref().map(|it| it.code()) != Some("22004") {
                wrong.push(format!("{call}: {code:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(everything(&client).await, before, "a refusal left something");
}

/// The calls are good ones, so it was the nulls that were refused; and every level answers them.
#[tokio::test]
async fn every_call_is_answered_at_every_level_and_taken_back_by_a_savepoint() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let known = Known::make(&client).await;
    let before = everything(&client).await;
    for level in ["read committed", "repeatable read", "serializable"] {
        for (function, arguments, _) in CALLS {
            let call = known.call(function, arguments);
            client.batch_execute(&format!("begin isolation level {level}; savepoint here")).await.unwrap();
            let twice = [client.query(&call, &[]).await, client.query("select 1", &[]).await];
            client.batch_execute("rollback to here; commit").await.unwrap();
            for answer in twice {
                answer.unwrap_or_else(|it| panic!("{level}: {call}: {it:?}"));
            }
            assert_eq!(everything(&client).await, before, "{level}: {call} was not taken back");
        }
    }
    assert_verifies(&client).await;
}

#[tokio::test]
async fn an_unknown_company_or_feature_is_42704_for_writers_and_an_answer_for_readers() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let known = Known::make(&client).await;
    let before = everything(&client).await;
    for call in [
        "increment_feature_usage(404, 'agents', 1)",
        "increment_feature_usage({c}, 'no_such_thing', 1)",
        "increment_feature_usage({c}, '', 1)",
        "increment_feature_usage_or_raise({c}, 'no_such_thing', 1)",
        "reserve_feature_usage(404, 'agents', 1)",
        "reserve_feature_usage({c}, 'AGENTS', 1)",
        "commit_reservation({c}, '{g}')",
        "commit_reservation({other}, '{r}')",
        "release_reservation({other}, '{r}')",
        "adjust_feature_usage({c}, 'no_such_thing', 1, null, 'r')",
        "adjust_feature_usage(404, 'agents', 1, null, 'r')",
        "set_feature_usage({c}, 'no_such_thing', 1, 'r')",
        "set_feature_usage(404, 'agents', 1, 'r')",
        "grant_credits({c}, 'no_such_thing', 1)",
        "grant_credits(404, 'agents', 1)",
        "void_grant({other}, '{g}')",
        "increment_ai_usage(404, 'm', 1, 1)",
        "increment_ai_usage({c}, 'm', 1, 1, 0, null, null, '{g}')",
        "create_subscription(404, {v})",
        "create_subscription({other}, 404)",
        "cancel_subscription({other}, '{s}')",
        "resume_subscription({other}, '{s}')",
        "set_subscription_status({other}, '{s}', 'active')",
        "change_subscription_plan({other}, '{s}', {v})",
        "change_subscription_plan({c}, '{s}', 404)",
        "preview_plan_change({other}, '{s}', {v})",
    ] {
        let call = known.fill(&format!("select * from {call}"));
        assert_eq!(refused(&client, &call, &[]).await, "42704", "{call}");
    }
    for (call, answer) in [
        ("check_feature_access(404, 'agents')", "(f,no_subscription)"),
        ("check_feature_access({c}, 'no_such_thing')", "(f,feature_not_found)"),
        ("check_feature_access({c}, '')", "(f,feature_not_found)"),
        ("check_feature_access({c}, 'Agents')", "(f,feature_not_found)"),
        ("check_feature_access(-1, 'agents')", "(f,no_subscription)"),
        ("check_feature_access(9223372036854775807, 'agents')", "(f,no_subscription)"),
        (
            "increment_feature_usage_bulk(array[404], array['agents'], array[1], array['k'], array[now()])",
            "(f,feature_not_found)",
        ),
    ] {
        let columns = if call.starts_with("check") { "allowed" } else { "accepted" };
        let call = known.fill(&format!("select {columns}, reason from {call}"));
        assert_eq!(record(&client, &call).await, answer, "{call}");
    }
    assert_eq!(everything(&client).await, before, "a refusal left something");
}

#[tokio::test]
async fn amounts_that_are_negative_or_too_large_are_refused_by_their_code() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let known = Known::make(&client).await;
    let before = everything(&client).await;
    let most = i64::MAX;
    let least = i64::MIN;
    for (call, code) in [
        ("check_feature_access({c}, 'agents', -1)".to_owned(), "22023"),
        (format!("check_feature_access({{c}}, 'agents', {least})"), "22023"),
        (format!("increment_feature_usage({{c}}, 'agents', {least})"), "22023"),
        (format!("increment_feature_usage({{c}}, 'agents', {most})"), "22003"),
        (format!("increment_feature_usage({{c}}, 'agents', {most}, null, null, 'cap')"), "22003"),
        (format!("increment_feature_usage({{c}}, 'agents', {most}, null, null, 'allow')"), "22003"),
        ("increment_feature_usage({c}, 'agents', 9223372036854775808)".to_owned(), "42883"),
        ("increment_feature_usage({c}, 'agents', '9223372036854775808')".to_owned(), "22003"),
        ("increment_feature_usage({c}, 'agents', 'many')".to_owned(), "22P02"),
        ("increment_feature_usage({c}, 'agents', 1, null, null, 'ALLOW')".to_owned(), "22023"),
        ("increment_feature_usage({c}, 'agents', 1, null, null, '')".to_owned(), "22023"),
        (format!("increment_feature_usage({{c}}, 'agents', 1, '{}')", "k".repeat(256)), "22023"),
        ("increment_feature_usage({c}, 'agents', 1, null, 'infinity')".to_owned(), "22023"),
        ("increment_feature_usage({c}, 'agents', 1, null, '-infinity')".to_owned(), "22023"),
        (format!("increment_ai_usage({{c}}, 'm', {most}, {most})"), "22003"),
        (format!("increment_ai_usage({{c}}, 'm', {most}, 0)"), "22003"),
        ("increment_ai_usage({c}, 'm', -1, 2)".to_owned(), "22023"),
        ("increment_ai_usage({c}, 'm', 1, 2, 2)".to_owned(), "22023"),
        (format!("reserve_feature_usage({{c}}, 'agents', {most})"), "22003"),
        (format!("reserve_feature_usage({{c}}, 'agents', {least})"), "22023"),
        (format!("commit_reservation({{c}}, '{{r}}', {most})"), "22003"),
        (format!("commit_reservation({{c}}, '{{r}}', {least})"), "22023"),
        (format!("adjust_feature_usage({{c}}, 'agents', {least}, null, 'r')"), "22003"),
        (format!("adjust_feature_usage({{c}}, 'agents', {most}, null, 'r')"), "22003"),
        ("adjust_feature_usage({c}, 'agents', -1, null, 'r')".to_owned(), "22003"),
        (format!("set_feature_usage({{c}}, 'agents', {most}, 'r')"), "22003"),
        (format!("set_feature_usage({{c}}, 'agents', {least}, 'r')"), "22023"),
        (format!("grant_credits({{c}}, 'agents', {most})"), "22003"),
        ("grant_credits({c}, 'agents', 0)".to_owned(), "22023"),
    ] {
        let call = known.fill(&format!("select * from {call}"));
        assert_eq!(refused(&client, &call, &[]).await, code, "{call}");
    }
    assert_eq!(everything(&client).await, before, "a refusal left something");
}

/// What the operator writes can be too large as well: the statement fails, and nothing is stored.
#[tokio::test]
async fn limits_that_do_not_add_up_to_a_number_are_refused_when_they_are_written() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = company(&client).await;
    let most = i64::MAX;
    subscribe(&client, c, plan(&client, "vast", &format!("('agents', {most}, false, null)")).await).await;
    let stack = "insert into secretaria.company_overrides (company_id, feature, mode, limit_value, reason)
        values ($1, 'agents', 'stack', 1, 'test')";
    assert_eq!(refused(&client, stack, &[&c as &(dyn ToSql + Sync)]).await, "22003");
    assert_eq!(refused(&client, &format!("select grant_credits({c}, 'agents', 1)"), &[]).await, "22003");
    assert_eq!(
        record(&client, &format!("select limit_value from check_feature_access({c}, 'agents')")).await,
        format!("({most})")
    );
    assert_eq!(increment(&client, &format!("{c}, 'agents', 1")).await, format!("(t,ok,f,0,1,{},0,{{}})", most - 1));
    limit(&client, c, "agents", 0).await;
    assert_eq!(increment(&client, &format!("{c}, 'agents', 1")).await, "(f,usage_limit_reached,f,1,1,0,1,{})");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_key_stands_for_one_payload_in_every_function_that_takes_one() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 100).await;
    let other = subscribed(&client).await;
    for call in [
        format!("increment_feature_usage({c}, 'whatsapp_messages', 2, 'key')"),
        format!("reserve_feature_usage({c}, 'whatsapp_messages', 2, '1 minute', 'key')"),
        format!("grant_credits({c}, 'whatsapp_messages', 2, idempotency_key => 'key')"),
        format!("increment_ai_usage({c}, 'm', 2, 1, 0, 'tokens')"),
    ] {
        client.query(&format!("select * from {call}"), &[]).await.unwrap();
    }
    let before = everything(&client).await;
    for call in [
        format!("increment_feature_usage({c}, 'whatsapp_messages', 3, 'key')"),
        format!("increment_feature_usage({c}, 'agents', 2, 'key')"),
        format!("increment_feature_usage({c}, 'whatsapp_messages', 2, 'key', null, 'allow')"),
        format!("increment_feature_usage_or_raise({c}, 'whatsapp_messages', 3, 'key')"),
        format!("reserve_feature_usage({c}, 'whatsapp_messages', 3, '1 minute', 'key')"),
        format!("reserve_feature_usage({c}, 'agents', 2, '1 minute', 'key')"),
        format!("grant_credits({c}, 'whatsapp_messages', 3, idempotency_key => 'key')"),
        format!("grant_credits({c}, 'agents', 2, idempotency_key => 'key')"),
        format!("increment_ai_usage({c}, 'n', 2, 1, 0, 'tokens')"),
        format!("increment_ai_usage({c}, 'm', 1, 2, 0, 'tokens')"),
        format!("increment_ai_usage({c}, 'm', 2, 1, 1, 'tokens')"),
        format!("increment_feature_usage({c}, 'ai_tokens', 3, 'tokens')"),
    ] {
        assert_eq!(refused(&client, &format!("select * from {call}"), &[]).await, "23505", "{call}");
    }
    assert_eq!(everything(&client).await, before, "a refusal left something");
    // Another company's keys are its own.
    assert_eq!(increment(&client, &format!("{other}, 'agents', 1, 'key'")).await, "(t,ok,f,0,1,2,0,{})");
    assert_verifies(&client).await;
}
