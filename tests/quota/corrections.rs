//! Corrections, credits, tokens with their prices, and a ledger that every counter can be checked against.

use tokio_postgres::Client;

use crate::increments::{alerts, assert_verifies, increment, limit, limited};
use crate::support::{Database, assert_entitlements_verify, at, company, record, records, refused};

async fn tokens(client: &Client, arguments: &str) -> String {
    let columns = "accepted, reason, duplicate, used_before, used_after, reserved";
    record(client, &format!("select {columns} from increment_ai_usage({arguments})")).await
}

#[tokio::test]
async fn a_correction_is_a_line_with_a_reason_and_a_name() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    increment(&client, &format!("{c}, 'whatsapp_messages', 5, 'wrong'")).await;
    let adjust = "select accepted, used_before, used_after, remaining, overage from adjust_feature_usage";
    assert_eq!(
        record(&client, &format!("{adjust}({c}, 'whatsapp_messages', -2, null, 'sent twice', 'wrong')")).await,
        "(t,5,3,7,0)"
    );
    assert_eq!(
        record(&client, &format!("{adjust}({c}, 'whatsapp_messages', 9, '2026-01-31 13:00Z', 'missed')")).await,
        "(t,3,12,0,2)"
    );
    at(&client, "2026-03-10 12:00Z").await;
    assert_eq!(
        record(&client, &format!("{adjust}({c}, 'whatsapp_messages', -4, '2026-01-31 13:00Z', 'late')")).await,
        "(t,12,8,2,0)"
    );
    for (value, answer) in [(2, "(t,0,2)"), (5, "(t,2,5)"), (1, "(t,5,1)"), (1, "(t,1,1)")] {
        let set = format!(
            "select accepted, used_before, used_after from set_feature_usage({c}, 'agents', {value}, 'counted')"
        );
        assert_eq!(record(&client, &set).await, answer);
    }
    let lines =
        "select amount, amends, properties ->> 'amends_event' from secretaria.usage_events where amends is not null
        and feature = 'whatsapp_messages' order by amount";
    assert_eq!(records(&client, lines).await, ["(-4,late,)", "(-2,\"sent twice\",wrong)", "(9,missed,)"]);
    let audited = "select count(*) from secretaria.audit_logs where action = 'usage_amended' and actor = 'postgres'";
    assert_eq!(record(&client, audited).await, "(7)");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn each_mistake_has_its_code() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    let unknown = uuid::Uuid::nil();
    client.query(&format!("select grant_credits({c}, 'agents', 1, idempotency_key => 'taken')"), &[]).await.unwrap();
    let id = record(&client, &format!("select reservation_id from reserve_feature_usage({c}, 'agents', 1)")).await;
    let id = id.trim_matches(['(', ')']);
    for (call, code) in [
        (format!("adjust_feature_usage({c}, 'agents', null, null, 'r')"), "22004"),
        (format!("adjust_feature_usage({c}, 'agents', 1, null, null)"), "22004"),
        (format!("adjust_feature_usage({c}, 'agents', 1, '2020-01-01', 'r')"), "22023"),
        (format!("adjust_feature_usage({c}, 'agents', -1, null, 'r')"), "22003"),
        (format!("adjust_feature_usage({c}, 'ai_replies', 1, null, 'r')"), "22023"),
        (format!("adjust_feature_usage({c}, 'no_such_thing', 1, null, 'r')"), "42704"),
        (format!("set_feature_usage({c}, 'agents', -1, 'r')"), "22023"),
        (format!("set_feature_usage({c}, 'agents', null, 'r')"), "22004"),
        (format!("grant_credits({c}, 'agents', null)"), "22004"),
        (format!("grant_credits({c}, 'agents', 0)"), "22023"),
        (format!("grant_credits({c}, 'agents', 1, expires_at => now() - interval '1 day')"), "22023"),
        (format!("grant_credits({c}, 'agents', 2, idempotency_key => 'taken')"), "23505"),
        (format!("grant_credits({c}, 'no_such_thing', 2)"), "42704"),
        (format!("void_grant({c}, null)"), "22004"),
        (format!("void_grant({c}, '{unknown}')"), "42704"),
        (format!("increment_ai_usage({c}, null, 1, 1)"), "22004"),
        (format!("increment_ai_usage({c}, 'm', -1, 1)"), "22023"),
        (format!("increment_ai_usage({c}, 'm', 1, 1, 2)"), "22023"),
        (format!("increment_ai_usage({c}, 'm', {max}, 1)", max = i64::MAX), "22003"),
        (format!("increment_ai_usage({c}, 'm', 1, 1, reservation_id => '{unknown}')"), "42704"),
        (format!("increment_ai_usage({c}, 'm', 1, 1, reservation_id => '{id}')"), "22023"),
        ("trim_usage_events(null)".to_owned(), "22004"),
        ("trim_usage_events(batch => 0)".to_owned(), "22023"),
    ] {
        assert_eq!(refused(&client, &format!("select * from {call}"), &[]).await, code, "{call}");
    }
    let api = database.connect_as("secretaria_api").await;
    api.execute("select set_config('app.company_id', $1, false)", &[&c.to_string()]).await.unwrap();
    for call in [
        format!("adjust_feature_usage({c}, 'agents', 1, null, 'r')"),
        format!("set_feature_usage({c}, 'agents', 1, 'r')"),
        format!("grant_credits({c}, 'agents', 1)"),
        format!("void_grant({c}, '{unknown}')"),
        format!("increment_ai_usage({}, 'm', 1, 1)", c + 1),
        "trim_usage_events()".to_owned(),
        "verify_usage()".to_owned(),
        format!("verify_usage({})", c + 1),
    ] {
        assert_eq!(refused(&api, &format!("select * from {call}"), &[]).await, "42501", "{call}");
    }
    assert!(records(&api, &format!("select * from verify_usage({c})")).await.is_empty());
}

#[tokio::test]
async fn credits_pay_for_what_passes_the_plan_in_their_order() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    for arguments in [
        "2, 100::smallint, null, null, 'last'",
        "2, 100::smallint, null, '2026-02-20', 'second'",
        "2, 1::smallint, null, null, 'first'",
    ] {
        client.query(&format!("select grant_credits({c}, 'agents', {arguments})"), &[]).await.unwrap();
    }
    let consumed = "select string_agg(idempotency_key || consumed, ' ' order by priority, expires_at)
        from secretaria.usage_grants";
    for (amount, answer, taken) in [
        (3, "(t,ok,f,0,3,6,0,{})", "first0 second0 last0"),
        (3, "(t,ok,f,3,6,3,0,{})", "first2 second1 last0"),
        (4, "(f,usage_limit_reached,f,6,6,3,0,{})", "first2 second1 last0"),
    ] {
        assert_eq!(increment(&client, &format!("{c}, 'agents', {amount}")).await, answer);
        assert_eq!(record(&client, consumed).await, format!("(\"{taken}\")"));
        assert_verifies(&client).await;
    }
    // What a correction takes out goes back to the last that paid.
    client.query(&format!("select adjust_feature_usage({c}, 'agents', -1, null, 'left')"), &[]).await.unwrap();
    assert_eq!(record(&client, consumed).await, "(\"first2 second0 last0\")");
    assert_verifies(&client).await;
    // The second ends unused; the last is taken back, once.
    at(&client, "2026-02-21 12:00Z").await;
    assert_eq!(increment(&client, &format!("{c}, 'agents', 3")).await, "(f,usage_limit_reached,f,5,5,2,0,{})");
    let void = format!(
        "select void_grant({c}, (select grant_id from secretaria.usage_grants where idempotency_key = 'last'))"
    );
    assert_eq!(record(&client, &void).await, "(t)");
    assert_eq!(record(&client, &void).await, "(f)");
    assert_eq!(increment(&client, &format!("{c}, 'agents', 1")).await, "(f,usage_limit_reached,f,5,5,0,0,{})");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn what_a_period_took_from_credits_raises_no_other_periods_limit() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    let row = format!("select limit_value, used, overage from check_feature_access({c}, 'whatsapp_messages')");
    client.query(&format!("select grant_credits({c}, 'whatsapp_messages', 20)"), &[]).await.unwrap();
    let used = |amount| format!("{c}, 'whatsapp_messages', {amount}, null, null, 'allow'");
    assert_eq!(increment(&client, &used(25)).await, "(t,ok,f,0,25,5,0,{80})");
    // Five are left for the next period, which uses twenty.
    at(&client, "2026-03-10 12:00Z").await;
    assert_eq!(record(&client, &row).await, "(15,0,0)");
    increment(&client, &used(20)).await;
    for _ in 0..2 {
        assert_eq!(record(&client, &row).await, "(15,20,5)");
        assert_verifies(&client).await;
        client.query(&format!("select secretaria_reference._materialise({c})"), &[]).await.unwrap();
    }
    // The other one's limit stays what it was, asked about later or when it comes back.
    let before = row.replace("'whatsapp_messages'", "'whatsapp_messages', 1, '2026-02-20 12:00Z'");
    assert_eq!(record(&client, &before).await, "(25,25,0)");
    at(&client, "2026-02-20 12:00Z").await;
    client.query(&format!("select secretaria_reference._materialise({c})"), &[]).await.unwrap();
    assert_eq!(record(&client, &row).await, "(25,25,0)");
    assert_verifies(&client).await;
    at(&client, "2026-03-10 12:00Z").await;
    client.query(&format!("select secretaria_reference._materialise({c})"), &[]).await.unwrap();
    assert_eq!(record(&client, &row).await, "(15,20,5)");
    // A correction gives back what this period took, and nothing of what the other did.
    client
        .query(&format!("select adjust_feature_usage({c}, 'whatsapp_messages', -20, null, 'none')"), &[])
        .await
        .unwrap();
    assert_eq!(record(&client, &row).await, "(15,0,0)");
    assert_eq!(record(&client, "select consumed from secretaria.usage_grants").await, "(15)");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn tokens_cost_what_their_day_cost_one_by_one_and_in_bulk() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let (one, bulk) = (limited(&client, 1_000_000).await, limited(&client, 1_000_000).await);
    client
        .batch_execute(
            "insert into secretaria.ai_model_prices
            values ('gemini-2.5-flash', '2026-02-09', 600000, 5000000, 150000, 6000000)",
        )
        .await
        .unwrap();
    // Two in the morning in UTC is still the day before in São Paulo, and another price.
    let calls =
        [(1001, 201, 101, "2026-02-09 02:00Z"), (1001, 201, 101, "2026-02-09 03:00Z"), (7, 3, 0, "2026-02-10 12:00Z")];
    for (n, (input, output, cached, at)) in calls.iter().enumerate() {
        let answer =
            tokens(&client, &format!("{one}, 'gemini-2.5-flash', {input}, {output}, {cached}, 'k{n}', '{at}'")).await;
        assert!(answer.starts_with("(t,ok,f,"), "{answer}");
    }
    let list = |pick: fn(&(i64, i64, i64, &str)) -> String| calls.iter().map(pick).collect::<Vec<_>>().join(", ");
    let call = format!(
        "select r.accepted, r.reason, r.duplicate from increment_ai_usage_bulk(array_fill({bulk}::bigint, array[3]),
          array_fill('gemini-2.5-flash'::text, array[3]), array[{}]::bigint[], array[{}]::bigint[], array[{}]::bigint[],
          array['k0', 'k1', 'k2'], array[{}]::timestamptz[]) r",
        list(|it| it.0.to_string()),
        list(|it| it.1.to_string()),
        list(|it| it.2.to_string()),
        list(|it| format!("'{}'", it.3)),
    );
    assert_eq!(records(&client, &call).await, ["(t,ok,f)"; 3]);
    assert_eq!(records(&client, &call).await, ["(t,duplicate,t)"; 3]);
    // In millionths of a dollar: 900 × 0.3 + 101 × 0.075 + 201 × 2.5 = 780.075, twice that, and 7 × 0.6 + 3 × 5 = 19.2.
    let months = "select month, messages, input_tokens, output_tokens, cached_tokens, cost_usd_micros, cost_brl_micros
        from secretaria.ai_usage_by_model where company_id";
    for company in [one, bulk] {
        assert_eq!(record(&client, &format!("{months} = {company}")).await, "(2026-02-01,3,2009,405,202,2359,13766)");
    }
    let totals = "select metric, day, amount from secretaria.usage_totals where company_id";
    let of_one = records(&client, &format!("{totals} = {one} order by 2, 1")).await;
    assert_eq!(of_one[0], "(tokens_cached,2026-02-08,101)");
    assert_eq!(of_one, records(&client, &format!("{totals} = {bulk} order by 2, 1")).await);
    // The same call told the other way is a duplicate, and the same key for another call is a conflict.
    assert_eq!(tokens(&client, &format!("{bulk}, 'gemini-2.5-flash', 7, 3, 0, 'k2'")).await, "(t,duplicate,t,,,0)");
    let other = format!("select * from increment_ai_usage({bulk}, 'gemini-2.5-flash', 8, 2, 0, 'k2')");
    assert_eq!(refused(&client, &other, &[]).await, "23505");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn a_model_call_settles_its_reservation_and_metering_finds_a_duplicate() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 1000).await;
    limit(&client, c, "ai_tokens", 1000).await;
    let held = format!("select reservation_id from reserve_feature_usage({c}, 'ai_tokens', 900)");
    let held = record(&client, &held).await;
    let settle = format!("{c}, 'm', 500, 600, 0, 'call', null, '{}'", held.trim_matches(['(', ')']));
    assert_eq!(tokens(&client, &settle).await, "(t,ok,f,0,1100,0)", "what was spent is booked");
    assert_eq!(tokens(&client, &settle).await, "(t,duplicate,t,0,1100,0)");
    let told = format!(
        "select accepted, reason, duplicate from increment_ai_usage_bulk(
          array[{c}], array['m'], array[500], array[600], array[0], array['call'], array[now()])"
    );
    assert_eq!(record(&client, &told).await, "(t,duplicate,t)");
    assert_eq!(record(&client, "select sum(messages) from secretaria.ai_usage_by_model").await, "(1)");
    assert_eq!(alerts(&client, c).await, ["(ai_tokens,80)", "(ai_tokens,100)"]);
    // Who may not manage is refused beyond the limit, and then nothing is summed.
    let api = database.connect_as("secretaria_api").await;
    api.execute("select set_config('app.company_id', $1, false)", &[&c.to_string()]).await.unwrap();
    assert_eq!(tokens(&api, &format!("{c}, 'm', 1, 1")).await, "(f,usage_limit_reached,f,1100,1100,0)");
    assert_eq!(record(&client, "select sum(messages) from secretaria.ai_usage_by_model").await, "(1)");
    assert_verifies(&client).await;
}

#[tokio::test]
async fn message_facts_are_recorded_with_or_without_a_right_to_them() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (c, without_right) = (limited(&client, 2).await, company(&client).await);
    let unknown_company = 9999;
    let call = format!(
        "select r.accepted, r.reason, r.duplicate from record_message_facts_bulk(
          array[{c}, {c}, {c}, {c}, {without_right}, {unknown_company}, {c}, {c}, {c}],
          array['message_out', 'message_out', 'message_out', 'message_in', 'message_out', 'message_out', 'message_out',
            'message_in', 'model_tokens'],
          array['1', '2', '3', '4', '5', '6', '1', '1', '9'], array_fill(now(), array[9])) r"
    );
    let answers = ["(t,ok,f)", "(t,duplicate,t)", "(f,key_conflict,f)", "(f,invalid_argument,f)"];
    let expected = [0, 0, 0, 0, 0, 0, 1, 2, 3].map(|n| answers[n]);
    assert_eq!(records(&client, &call).await, expected);
    let used = "select company_id, used from secretaria.feature_usage where feature = 'whatsapp_messages' order by 1";
    assert_eq!(records(&client, used).await, [format!("({c},3)"), format!("({without_right},1)")]);
    let totals = "select company_id, metric, amount from secretaria.usage_totals order by 1, 2";
    let expected = [
        (c, "message_in", 1),
        (c, "message_out", 3),
        (without_right, "message_out", 1),
        (unknown_company, "message_out", 1),
    ];
    assert_eq!(
        records(&client, totals).await,
        expected.map(|(company, metric, sum)| format!("({company},{metric},{sum})"))
    );
    assert_eq!(alerts(&client, c).await, ["(whatsapp_messages,80)", "(whatsapp_messages,100)"]);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn late_facts_in_bulk_amend_the_period_they_belong_to() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 12:00Z").await;
    let c = limited(&client, 10).await;
    at(&client, "2026-03-10 12:00Z").await;
    let call = format!(
        "select r.accepted from record_message_facts_bulk(
          array[{c}, {c}, {c}, {c}], array_fill('message_out'::text, array[4]),
          array['1', '2', '3', '4'], array['2026-03-01', '2026-02-10', '2026-02-11', '2026-01-05']::timestamptz[]) r"
    );
    assert_eq!(records(&client, &call).await, ["(t)"; 4]);
    let used = "select used from (
          select period_start, used from secretaria.feature_usage_periods where feature = 'whatsapp_messages'
          union all
          select period_start, used from secretaria.feature_usage where feature = 'whatsapp_messages') it
        order by period_start";
    assert_eq!(records(&client, used).await, ["(1)", "(2)", "(1)"]);
    assert_verifies(&client).await;
}

#[tokio::test]
async fn old_lines_leave_what_they_came_to_behind() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    for n in 0..5 {
        increment(&client, &format!("{c}, 'whatsapp_messages', 1, '{n}'")).await;
    }
    client
        .query(&format!("select adjust_feature_usage({c}, 'whatsapp_messages', -1, null, 'wrong')"), &[])
        .await
        .unwrap();
    assert_eq!(record(&client, "select trim_usage_events()").await, "(0)", "they are not old yet");
    for trimmed in [4, 2, 0] {
        assert_eq!(record(&client, "select trim_usage_events('-1 minute', 4)").await, format!("({trimmed})"));
        assert_verifies(&client).await;
    }
    assert_eq!(record(&client, "select amount, events from secretaria.usage_openings").await, "(4,6)");
    client
        .batch_execute("update secretaria.feature_usage set used = used + 1 where feature = 'whatsapp_messages'")
        .await
        .unwrap();
    let drift = format!("select counter, ledger, drift from verify_usage({c})");
    assert_eq!(record(&client, &drift).await, "(5,4,1)", "a check that finds nothing must be able to find something");
}

/// Every database of before the fifteenth migration knows only how much of a grant is gone.
#[tokio::test]
async fn credits_that_were_spent_before_their_periods_were_written_down_are_the_running_ones() {
    let Some(database) = Database::create_plain().await else { return };
    let client = database.connect().await;
    let c = limited(&client, 10).await;
    record(&client, &format!("select grant_credits({c}, 'whatsapp_messages', 100)")).await;
    increment(&client, &format!("{c}, 'whatsapp_messages', 70")).await;
    let counter = format!("select used, limit_value, ceiling from secretaria.feature_usage where company_id = {c}");
    let takings = "select company_id, grant_id, period_start, amount from secretaria.usage_grant_takings";
    let before = (records(&client, &counter).await, records(&client, takings).await);
    assert_eq!(before.1.len(), 1, "{before:?}");
    client.batch_execute("drop table secretaria.usage_grant_takings").await.unwrap();
    client
        .batch_execute(include_str!("../../sql/migrations/V0015__keep_what_periods_took_from_credits.sql"))
        .await
        .unwrap();
    database.replace_functions().await;
    assert_eq!((records(&client, &counter).await, records(&client, takings).await), before);
    assert_verifies(&client).await;
    assert_entitlements_verify(&client).await;
    let undo = format!(
        "select used_before, used_after from adjust_feature_usage({c}, 'whatsapp_messages', -65, null, 'undone')"
    );
    assert_eq!(record(&client, &undo).await, "(70,5)");
    assert_verifies(&client).await;
    assert_entitlements_verify(&client).await;
}
