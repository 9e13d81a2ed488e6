//! A subscription from its first day to its last, and what is written down on the way.

use tokio_postgres::Client;

use crate::support::{Database, assert_entitlements_verify, at, company, plan, record, records, refused, starter};

const BEGINS: &str = "2026-04-01 10:00 America/Sao_Paulo";
const CREATE: &str = "select create_subscription($1, $2)";
const CHANGE: &str = "select change_subscription_plan($1, $2::text::uuid, $3)";

/// A company that came with the contract it had: anchored on 31 January, so that it renews on 30 April.
async fn client_since_january(client: &Client) -> (i64, String) {
    at(client, BEGINS).await;
    let company = company(client).await;
    let anchor = "timestamptz '2026-01-31 10:00 America/Sao_Paulo'";
    let create = format!("select create_subscription({company}, {}, {anchor})::text", starter(client).await);
    (company, client.query_one(&create, &[]).await.unwrap().get(0))
}

/// A published version of a plan of its own: `agents` people for a price.
async fn priced(client: &Client, code: &str, agents: i64, price: &str) -> i64 {
    let make = format!(
        "with p as (insert into plans (code, name) values ('{code}', '{code}') returning plan_id)
        insert into plan_versions (plan_id, version, price_minor, currency, billing_interval)
        select plan_id, 1, {price} from p returning plan_version_id"
    );
    let version: i64 = client.query_one(&make, &[]).await.unwrap().get(0);
    let fill = format!(
        "insert into plan_features (plan_version_id, feature, limit_value) values ({version}, 'agents', {agents});
        update plan_versions set state = 'published', published_at = now() where plan_version_id = {version}"
    );
    client.batch_execute(&fill).await.unwrap();
    version
}

/// What the company may do with `agents` at an instant: allowed, reason, limit.
async fn agents(client: &Client, company: i64, instant: &str) -> String {
    at(client, instant).await;
    record(client, &format!("select allowed, reason, limit_value from check_feature_access({company}, 'agents')")).await
}

/// The kinds of a company's subscription events, oldest first.
async fn steps(client: &Client, company: i64) -> Vec<String> {
    let query = "select kind from subscription_events where company_id = $1 order by recorded_at";
    client.query(query, &[&company]).await.unwrap().iter().map(|it| it.get(0)).collect()
}

/// Events, audit rows and alerts of a company.
async fn written(client: &Client, company: i64) -> String {
    record(
        client,
        &format!(
            "select (select count(*) from subscription_events where company_id = {company}),
          (select count(*) from audit_logs where company_id = {company} and action like 'subscription%'),
          (select count(*) from outbox where company_id = {company} and topic = 'alerts')"
        ),
    )
    .await
}

#[tokio::test]
async fn each_step_leaves_an_event_an_audit_row_and_an_alert() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (company, subscription) = client_since_january(&client).await;
    assert_eq!(written(&client, company).await, "(1,1,1)");
    let pro = priced(&client, "pro", 10, "29901, 'BRL', 'month'").await;
    let take = [
        format!("select change_subscription_plan({company}, '{subscription}', {pro}, 'end_of_term')"),
        format!("select change_subscription_plan({company}, '{subscription}', {pro})"),
        format!("select set_subscription_status({company}, '{subscription}', 'suspended')"),
        format!("select cancel_subscription({company}, '{subscription}')"),
        format!("select resume_subscription({company}, '{subscription}')"),
        format!("select cancel_subscription({company}, '{subscription}', false)"),
    ];
    for (taken, step) in take.iter().enumerate() {
        client.batch_execute(step).await.unwrap();
        let count = taken + 2;
        assert_eq!(written(&client, company).await, format!("({count},{count},{count})"), "{step}");
    }
    let wanted = ["created", "plan_change_scheduled", "plan_changed", "status_changed", "cancel_scheduled", "resumed"];
    assert_eq!(steps(&client, company).await[..6], wanted);
    assert_eq!(steps(&client, company).await[6..], ["canceled"]);
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn what_is_rolled_back_leaves_nothing() {
    let Some(database) = Database::create().await else { return };
    let mut client = database.connect().await;
    let (company, subscription) = client_since_january(&client).await;
    let transaction = client.transaction().await.unwrap();
    let cancel = "select cancel_subscription($1, $2::text::uuid, false)";
    transaction.execute(cancel, &[&company, &subscription]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(written(&client, company).await, "(1,1,1)");
    assert_eq!(agents(&client, company, BEGINS).await, "(t,ok,3)");
}

#[tokio::test]
async fn only_a_published_version_is_sold() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (subscribed, subscription) = client_since_january(&client).await;
    let company = company(&client).await;
    let draft: i64 = client
        .query_one(
            "insert into plan_versions (plan_id, version) select plan_id, 7 from plans where code = 'starter'
            returning plan_version_id",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let retired = plan(&client, "retired", "('agents', 1, false, null)").await;
    let retire = "update plan_versions set state = 'retired' where plan_version_id = $1";
    client.execute(retire, &[&retired]).await.unwrap();
    for (version, state) in [(draft, "55000"), (retired, "55000"), (999_999, "42704")] {
        assert_eq!(refused(&client, CREATE, &[&company, &version]).await, state);
        assert_eq!(refused(&client, CHANGE, &[&subscribed, &subscription, &version]).await, state);
        let preview = "select preview_plan_change($1, $2::text::uuid, $3)";
        assert_eq!(refused(&client, preview, &[&subscribed, &subscription, &version]).await, state);
    }
    assert_eq!(written(&client, company).await, "(0,0,0)");
    assert_eq!(written(&client, subscribed).await, "(1,1,1)");
}

#[tokio::test]
async fn a_company_has_one_subscription_at_a_time() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (held, _) = client_since_january(&client).await;
    let version = starter(&client).await;
    assert_eq!(refused(&client, CREATE, &[&held, &version]).await, "23505");

    let company = company(&client).await;
    let buyers = [database.connect().await, database.connect().await, database.connect().await];
    let bought = buyers.iter().map(async |it| it.query(CREATE, &[&company, &version]).await);
    let bought = futures_util::future::join_all(bought).await;
    let codes: Vec<_> = bought.iter().filter_map(|it| it.as_ref().err()?.code()).map(|it| it.code()).collect();
    assert_eq!(codes, ["23505", "23505"]);
    assert_eq!(written(&client, company).await, "(1,1,1)");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (held, subscription) = client_since_january(&client).await;
    let (free, version) = (company(&client).await, starter(&client).await);
    let dollars = priced(&client, "abroad", 5, "1000, 'USD', 'month'").await;
    let it = format!("{held}, '{subscription}'");
    let unknown = "'00000000-0000-4000-8000-000000000000'";
    for (call, state) in [
        (format!("create_subscription(null, {version})"), "22004"),
        (format!("create_subscription({free}, null)"), "22004"),
        (format!("create_subscription(999999, {version})"), "42704"),
        (format!("create_subscription({free}, {version}, null, 'America/Nowhere')"), "22023"),
        (format!("create_subscription({free}, {version}, 'infinity')"), "22023"),
        (format!("create_subscription({free}, {version}, null, null, interval '0')"), "22023"),
        (format!("change_subscription_plan({it}, {dollars})"), "22023"),
        (format!("change_subscription_plan({it}, {dollars}, 'end_of_term')"), "22023"),
        (format!("preview_plan_change({it}, {dollars})"), "22023"),
        (format!("change_subscription_plan({it}, {version}, 'tomorrow')"), "22023"),
        (format!("change_subscription_plan({it}, {version}, 'immediate', 'half')"), "22023"),
        (format!("change_subscription_plan({it}, {version}, null)"), "22004"),
        (format!("change_subscription_plan({held}, {unknown}, {version})"), "42704"),
        (format!("change_subscription_plan({free}, '{subscription}', {version})"), "42704"),
        (format!("cancel_subscription({free}, '{subscription}')"), "42704"),
        (format!("cancel_subscription({it}, null)"), "22004"),
        (format!("cancel_subscription({held}, null)"), "22004"),
        (format!("resume_subscription({free}, '{subscription}')"), "42704"),
        (format!("set_subscription_status({it}, 'asleep')"), "22023"),
        (format!("set_subscription_status({it}, null)"), "22004"),
        (format!("set_subscription_status({it}, 'trialing')"), "22023"),
        (format!("set_subscription_status({it}, 'active', interval '1 day')"), "22023"),
        (format!("set_subscription_status({it}, 'past_due', interval '-1 day')"), "22023"),
    ] {
        assert_eq!(refused(&client, &format!("select {call}"), &[]).await, state, "{call}");
    }
    assert_eq!(written(&client, held).await, "(1,1,1)");
}

#[tokio::test]
async fn an_immediate_change_costs_what_the_preview_said() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (company, subscription) = client_since_january(&client).await;
    let pro = priced(&client, "pro", 10, "29901, 'BRL', 'month'").await;
    // Twenty of the thirty days from 31 March to 30 April are left.
    at(&client, "2026-04-10 10:00 America/Sao_Paulo").await;
    let preview = format!("select * from preview_plan_change({company}, '{subscription}', {pro})");
    assert_eq!(records(&client, &preview).await, ["(unused_time,-6600,BRL)", "(remaining_time,19934,BRL)"]);
    let change = format!(
        "select effective_at = '2026-04-10 10:00 America/Sao_Paulo', proration_minor, currency
        from change_subscription_plan({company}, '{subscription}', {pro})"
    );
    assert_eq!(record(&client, &change).await, "(t,13334,BRL)");
    assert_eq!(agents(&client, company, "2026-04-10 10:00 America/Sao_Paulo").await, "(t,ok,10)");
    // A repeat of the call changes nothing, and bills nothing.
    assert_eq!(record(&client, &change).await, "(t,0,BRL)");
    assert_eq!(steps(&client, company).await, ["created", "plan_changed"]);
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn a_preview_equals_the_change_at_any_instant() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let yearly = priced(&client, "yearly", 20, "120000, 'BRL', 'year'").await;
    let odd = priced(&client, "odd", 30, "33333, 'BRL', 'month'").await;
    let mut seen = Vec::new();
    for (version, instant) in [
        (yearly, "2026-04-10 10:00:00 America/Sao_Paulo"),
        (odd, "2026-04-10 10:00:00.9 America/Sao_Paulo"),
        (odd, "2026-04-29 23:59:59 America/Sao_Paulo"),
        (odd, "2026-04-30 10:00:00 America/Sao_Paulo"),
    ] {
        let (company, subscription) = client_since_january(&client).await;
        let preview = format!(
            "select sum(amount_minor) from preview_plan_change({company}, '{subscription}', {version}, '{instant}')"
        );
        let said = record(&client, &preview).await;
        at(&client, instant).await;
        let change =
            format!("select proration_minor from change_subscription_plan({company}, '{subscription}', {version})");
        assert_eq!(said, record(&client, &change).await, "{instant}");
        seen.push(said);
    }
    // 120000 · 296 d / 365 d − 6600; two thirds of 33333 − 9900; 36001 s of 2592000; on the day it renews, all of it.
    assert_eq!(seen, ["(90715)", "(15622)", "(325)", "(23433)"]);
}

#[tokio::test]
async fn a_change_at_the_end_of_the_term_waits_for_it() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (company, subscription) = client_since_january(&client).await;
    let small = priced(&client, "small", 1, "100, 'BRL', 'month'").await;
    let change = format!(
        "select effective_at = '2026-04-30 10:00 America/Sao_Paulo', proration_minor
        from change_subscription_plan({company}, '{subscription}', {small}, 'end_of_term')"
    );
    assert_eq!(record(&client, &change).await, "(t,0)");
    assert_eq!(record(&client, &change).await, "(t,0)");
    assert_eq!(agents(&client, company, "2026-04-30 09:59:59 America/Sao_Paulo").await, "(t,ok,3)");
    assert_eq!(agents(&client, company, "2026-04-30 10:00:00 America/Sao_Paulo").await, "(t,ok,1)");
    assert_eq!(steps(&client, company).await, ["created", "plan_change_scheduled"]);
    // The next step finds the change due and writes it down, as of its day.
    let suspend = format!("select set_subscription_status({company}, '{subscription}', 'suspended')");
    client.batch_execute(&suspend).await.unwrap();
    assert_eq!(steps(&client, company).await, ["created", "plan_change_scheduled", "plan_changed", "status_changed"]);
    let on = "select occurred_at = '2026-04-30 10:00 America/Sao_Paulo' from subscription_events
        where kind = 'plan_changed'";
    assert_eq!(record(&client, on).await, "(t)");
    let row =
        format!("select plan_version_id = {small}, next_change_at from subscriptions where company_id = {company}");
    assert_eq!(record(&client, &row).await, "(t,)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn an_immediate_change_drops_the_one_that_waits() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (company, subscription) = client_since_january(&client).await;
    let small = priced(&client, "small", 1, "100, 'BRL', 'month'").await;
    let it = format!("{company}, '{subscription}'");
    let wait = format!("select change_subscription_plan({it}, {small}, 'end_of_term')");
    client.batch_execute(&wait).await.unwrap();
    let stay = format!("select change_subscription_plan({it}, {})", starter(&client).await);
    client.batch_execute(&stay).await.unwrap();
    assert_eq!(agents(&client, company, "2026-05-02 10:00 America/Sao_Paulo").await, "(t,ok,3)");
    let free = format!("select proration_minor from change_subscription_plan({it}, {small}, 'immediate', 'none')");
    assert_eq!(record(&client, &free).await, "(0)");
    assert_eq!(agents(&client, company, "2026-05-02 10:00 America/Sao_Paulo").await, "(t,ok,1)");
}

#[tokio::test]
async fn a_trial_costs_nothing_and_ends() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, BEGINS).await;
    let company = company(&client).await;
    let pro = priced(&client, "pro", 10, "29901, 'BRL', 'month'").await;
    let create = format!(
        "select create_subscription({company}, {}, null, 'Europe/Lisbon', interval '14 days')::text",
        starter(&client).await
    );
    let subscription: String = client.query_one(&create, &[]).await.unwrap().get(0);
    let preview = format!("select sum(amount_minor) from preview_plan_change({company}, '{subscription}', {pro})");
    assert_eq!(record(&client, &preview).await, "(0)");
    assert_eq!(agents(&client, company, "2026-04-15 09:59 America/Sao_Paulo").await, "(t,ok,3)");
    assert_eq!(agents(&client, company, "2026-04-15 10:00 America/Sao_Paulo").await, "(f,trial_expired,)");
    let activate = format!("select set_subscription_status({company}, '{subscription}', 'active')");
    client.batch_execute(&activate).await.unwrap();
    assert_eq!(agents(&client, company, "2026-04-15 10:00 America/Sao_Paulo").await, "(t,ok,3)");
}

#[tokio::test]
async fn a_cancellation_waits_for_the_end_of_the_period_and_can_be_taken_back() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (company, subscription) = client_since_january(&client).await;
    let it = format!("{company}, '{subscription}'");
    let cancel = format!("select cancel_subscription({it}) = '2026-04-30 10:00 America/Sao_Paulo'");
    assert_eq!(record(&client, &cancel).await, "(t)");
    assert_eq!(record(&client, &cancel).await, "(t)");
    assert_eq!(agents(&client, company, "2026-04-30 09:59 America/Sao_Paulo").await, "(t,ok,3)");
    assert_eq!(agents(&client, company, "2026-04-30 10:00 America/Sao_Paulo").await, "(f,subscription_inactive,)");
    let resume = format!("select resume_subscription({it})");
    assert_eq!(refused(&client, &resume, &[]).await, "55000");
    at(&client, BEGINS).await;
    let later = format!("select change_subscription_plan({it}, {}, 'end_of_term')", starter(&client).await);
    assert_eq!(refused(&client, &later, &[]).await, "55000");
    assert_eq!(record(&client, &resume).await, "(t)");
    assert_eq!(record(&client, &resume).await, "(f)");
    assert_eq!(agents(&client, company, "2026-05-01 10:00 America/Sao_Paulo").await, "(t,ok,3)");
    assert_eq!(steps(&client, company).await, ["created", "cancel_scheduled", "resumed"]);
}

#[tokio::test]
async fn what_is_over_is_ended_by_the_next_subscription() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    for at_period_end in [true, false] {
        let (company, subscription) = client_since_january(&client).await;
        let version = starter(&client).await;
        let cancel = format!("select cancel_subscription({company}, '{subscription}', {at_period_end})");
        client.batch_execute(&cancel).await.unwrap();
        assert_eq!(agents(&client, company, "2026-05-01 10:00 UTC").await, "(f,subscription_inactive,)");
        for call in ["resume_subscription($1, $2::text::uuid)", "set_subscription_status($1, $2::text::uuid, 'active')"]
        {
            assert_eq!(
                refused(&client, &format!("select {call}"), &[&company, &subscription]).await,
                "55000",
                "{call}"
            );
        }
        client.execute(CREATE, &[&company, &version]).await.unwrap();
        assert_eq!(agents(&client, company, "2026-05-01 10:00 UTC").await, "(t,ok,3)");
        let ended = format!(
            "select status, ended_at = cancel_at from subscriptions
            where company_id = {company} and ended_at is not null"
        );
        assert_eq!(record(&client, &ended).await, "(canceled,t)");
    }
}

#[tokio::test]
async fn a_status_says_what_is_allowed() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (company, subscription) = client_since_january(&client).await;
    for (status, grace, now, in_four_days) in [
        ("past_due", "interval '3 days'", "(t,ok,3)", "(f,subscription_inactive,)"),
        ("past_due", "interval '5 days'", "(t,ok,3)", "(t,ok,3)"),
        ("suspended", "null", "(f,subscription_inactive,)", "(f,subscription_inactive,)"),
        ("past_due", "null", "(f,subscription_inactive,)", "(f,subscription_inactive,)"),
        ("active", "null", "(t,ok,3)", "(t,ok,3)"),
        ("canceled", "null", "(f,subscription_inactive,)", "(f,subscription_inactive,)"),
    ] {
        at(&client, BEGINS).await;
        let set = format!("select set_subscription_status({company}, '{subscription}', '{status}', {grace})");
        client.batch_execute(&set).await.unwrap();
        assert_eq!(agents(&client, company, BEGINS).await, now, "{status} {grace}");
        assert_eq!(
            agents(&client, company, "2026-04-05 10:00 America/Sao_Paulo").await,
            in_four_days,
            "{status} {grace}"
        );
    }
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn what_was_recorded_is_never_rewritten() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    client_since_january(&client).await;
    for (table, key) in [("subscription_events", "event_id"), ("audit_logs", "audit_id")] {
        for statement in [
            format!("update {table} set detail = '{{}}'"),
            format!("update {table} set detail = '{{}}' where false"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!(
                "insert into {table} overriding system value select * from {table}
                on conflict (company_id, {key}) do update set detail = '{{}}'"
            ),
        ] {
            assert_eq!(refused(&client, &statement, &[]).await, "55000", "{statement}");
        }
    }
}
