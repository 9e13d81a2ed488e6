//! Limits of a plan, end to end: which company may call the model, what is counted, and what is sent at the limit.

use sandbox::{Filter, Target};

use crate::support::app::TestApp;
use crate::support::hook::Producer;

const ANA: &str = "5511999990001";

/// Gives one company another limit.
async fn limit(app: &TestApp, company: &Producer, feature: &str, limit: i64) {
    let sql = "insert into company_overrides (company_id, feature, limit_value, reason) values ($1, $2, $3, 'test')";
    app.sql.execute(sql, &[&company.company_id, &feature, &limit]).await.unwrap();
}

/// The state of a feature: allowed or why not, used, reserved, left.
async fn access(app: &TestApp, company: &Producer, feature: &str) -> String {
    let sql = "select concat_ws(' ', reason, used, reserved, remaining) from check_feature_access({}, '{}')";
    app.one(&sql.replacen("{}", &company.company_id.to_string(), 1).replacen("{}", feature, 1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_company_without_tokens_left_gets_the_limit_text_and_no_model_call() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    limit(&app, &clinic, "ai_tokens", 10).await;
    app.accept(&clinic.text(ANA, "A1", "qual o preço?")).await;
    app.settles().await;
    assert_eq!(app.sandbox.count(&Filter::of(Target::Model)), 0);
    assert_eq!(app.sent_to(ANA), [app.settings.reply.limit_text.as_str()]);
    assert_eq!(app.one("select concat_ws(' ', outcome, reason) from turns").await, "fallback usage_limit_reached");
    assert_eq!(access(&app, &clinic, "ai_tokens").await, "ok 0 0 10", "a denial counts nothing");
    assert_eq!(access(&app, &clinic, "whatsapp_messages").await, "ok 1 0 1999", "what is sent counts all the same");

    // A higher limit counts at once.
    app.sql.execute("update company_overrides set limit_value = 100000", &[]).await.unwrap();
    app.accept(&clinic.text(ANA, "A2", "e agora, qual o preço?")).await;
    app.settles().await;
    assert_eq!(app.sandbox.count(&Filter::of(Target::Model)), 1);
    assert_eq!(app.one("select string_agg(outcome, ' ' order by opened_at) from turns").await, "fallback replied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_company_whose_subscription_ended_gets_the_usual_fallback() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let cancel = "select cancel_subscription(company_id, subscription_id, false)::text from subscriptions
                  where company_id = $1";
    app.sql.query(cancel, &[&clinic.company_id]).await.unwrap();
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.settles().await;
    assert_eq!(app.sandbox.count(&Filter::of(Target::Model)), 0);
    assert_eq!(app.sent_to(ANA), [app.settings.reply.fallback_text.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reserved_is_given_back_and_what_was_used_counts_once() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    for (id, text) in [("A1", "oi"), ("A2", "qual o preço?")] {
        app.accept(&clinic.text(ANA, id, text)).await;
        app.settles().await;
    }
    let ledger = "select concat_ws(' ', 'ok', sum(amount), 0, 2000000 - sum(amount)) from usage_events
                  where fact = 'model_tokens' having count(*) = 2";
    let counted = access(&app, &clinic, "ai_tokens").await;
    assert_eq!(counted, app.one(ledger).await);
    assert_eq!(app.one("select string_agg(distinct state, ' ') from usage_reservations").await, "released");
    // metering read the same facts and found them booked.
    assert_eq!(
        app.one("select count(*)::text from event_outcomes where processor = 'metering' and state = 'done'").await,
        "6"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crossing_is_announced_once_and_facts_beyond_a_limit_are_counted() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    limit(&app, &clinic, "whatsapp_messages", 2).await;
    app.sql.batch_execute(KEEP_ALERTS).await.unwrap();
    for id in ["A1", "A2", "A3"] {
        app.accept(&clinic.text(ANA, id, "oi")).await;
        app.settles().await;
    }
    assert_eq!(access(&app, &clinic, "whatsapp_messages").await, "usage_limit_reached 3 0 0");
    // Of two messages the second is both 80 and 100 per cent.
    let announced = "select string_agg(concat_ws(' ', kind, threshold), ', ' order by threshold) from announced
                     where kind = 'usage_threshold'";
    assert_eq!(app.one(announced).await, "usage_threshold 80, usage_threshold 100");
}

/// Keeps the outbox rows for `alerts`, which the relay deletes.
const KEEP_ALERTS: &str = "
    create table announced (kind text, threshold int);
    create function keep_alert() returns trigger language plpgsql security definer as $$
    begin
      if new.topic = 'alerts' then
        insert into secretaria.announced
        select it ->> 'kind', (it -> 'payload' ->> 'threshold')::int
        from (select convert_from(new.payload, 'utf8')::jsonb as it) x;
      end if;
      return null;
    end $$;
    create trigger keep_alert after insert on outbox for each row execute function keep_alert()";
