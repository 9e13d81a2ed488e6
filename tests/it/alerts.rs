//! Alerts, end to end: messages pass a limit, and each receiver gets one webhook.

use std::process::Command;

use api::companies::Auth;
use platform::postgres::Db;
use platform::webhook::Secret;
use processors::dead_letters::{self, Run};
use sandbox::{Entry, Fault, FaultRule, Filter, Receiver, Target};
use secrecy::ExposeSecret;
use secretaria::Settings;
use serde_json::Value;

use crate::crash::{BROKER, Process, free_address, on_real_kafka};
use crate::support::TIMEOUT;
use crate::support::app::{TestApp, a_moment};
use crate::support::hook::Producer;

const ANA: &str = "5511999990001";

/// Gives a company a receiver of that name at the sandbox, as an operator would from a shell.
async fn register_receiver(app: &TestApp, company: &Producer, name: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretaria"));
    command.env_clear();
    command.env("SECRETARIA__POSTGRES__OPERATOR_URL", app.settings.postgres.operator_url.expose());
    command.env("SECRETARIA__KEYS__DIR", &app.settings.keys.dir).env("SECRETARIA__ALERTS__ALLOW_PRIVATE", "true");
    let url = format!("{}/webhooks/{name}", app.sandbox.base_url());
    command.args(["company", "webhook", "--company", &company.domain, "--url", &url]);
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed} {}", String::from_utf8_lossy(&output.stderr));
    let secret = printed.split_whitespace().find(|it| it.starts_with("whsec_")).unwrap();
    app.sandbox.receive(name, &Receiver { secrets: vec![secret.to_owned()] }).unwrap();
}

/// Waits until the event that a company was added is ignored, because there is no receiver yet.
async fn first_event_is_ignored(app: &TestApp, company: &Producer) {
    let sql = "select string_agg(reason, ' ') from event_outcomes where processor = 'alerts' and company_id = {}";
    app.comes_to(&sql.replace("{}", &company.company_id.to_string()), "no_webhook").await;
}

/// A clinic that has ten agents, and has not used them.
async fn ten_agents(app: &TestApp, company: &Producer) {
    let sql =
        "insert into company_overrides (company_id, feature, limit_value, reason) values ($1, 'agents', 10, 'test')";
    app.sql.execute(sql, &[&company.company_id]).await.unwrap();
}

async fn uses_agents(app: &TestApp, company: &Producer, agents: i64, key: &str) {
    let sql = "select increment_feature_usage($1, 'agents', $2, $3)::text";
    app.sql.query(sql, &[&company.company_id, &agents, &key]).await.unwrap();
}

/// What the receivers accepted: which receiver, which company, which threshold, of how much.
fn alerts(accepted: &[Entry]) -> Vec<String> {
    let line = |it: &Entry| {
        let body: Value = serde_json::from_str(it.text.as_deref().unwrap()).unwrap();
        assert_eq!(body["type"], "usage.threshold_reached");
        let data = &body["data"];
        format!(
            "{} {} {} {}/{}",
            it.number.as_deref().unwrap(),
            data["company"].as_str().unwrap(),
            data["threshold_percent"],
            data["used"],
            data["limit"]
        )
    };
    let mut lines: Vec<String> = accepted.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn each_threshold_that_messages_pass_is_accepted_once_however_often_the_receiver_fails() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    first_event_is_ignored(&app, &clinic).await;
    register_receiver(&app, &clinic, "clinica").await;
    let sql = "insert into company_overrides (company_id, feature, limit_value, reason)
               values ($1, 'whatsapp_messages', 5, 'test')";
    app.sql.execute(sql, &[&clinic.company_id]).await.unwrap();
    let unavailable = Fault::Status { status: 503, body: Value::Null, headers: Default::default() };
    app.sandbox.fault(FaultRule::new(Target::Webhook, unavailable).text("\"threshold_percent\":80").times(2)).unwrap();
    for n in 1..=6 {
        app.accept(&clinic.text(ANA, &format!("A{n}"), "oi")).await;
        app.settles().await;
    }
    let accepted = app.sandbox.seen(&Filter::taken(), 2, TIMEOUT).await.unwrap();
    assert_eq!(alerts(&accepted), ["clinica clinica.test 100 5/5", "clinica clinica.test 80 4/5"]);
    app.comes_to(
        "select string_agg(state || coalesce(reason, ''), ' ' order by admitted_at) from event_outcomes
                  where processor = 'alerts' and company_id <> 1",
        "ignoredno_webhook done done",
    )
    .await;
    assert_eq!(
        app.one(
            "select string_agg(a.result, ' ' order by a.attempt)
                 from webhook_attempts a join webhook_deliveries d using (company_id, event_id, endpoint)
                 group by d.created_at order by d.created_at"
        )
        .await,
        "FAILED_TEMPORARY FAILED_TEMPORARY DELIVERED\nDELIVERED"
    );
    a_moment().await;
    assert_eq!(app.sandbox.count(&Filter::of(Target::Webhook)), 4, "two that failed, two that were accepted, no more");
    let ids = app.one("select string_agg(event_id::text, ' ' order by event_id) from webhook_deliveries").await;
    let mut seen: Vec<String> = accepted.into_iter().filter_map(|it| it.message_key).collect();
    seen.sort();
    assert_eq!(seen.join(" "), ids, "the ids are the events'");
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_gets_the_alerts_of_every_company_and_a_company_its_own() {
    let secret = Secret::random().unwrap().to_text();
    let operator = |settings: &mut Settings| {
        // The sandbox is the model too.
        settings.alerts.operator_webhook_url = format!("{}/webhooks/operator", settings.reply.model.base_url);
        settings.alerts.operator_webhook_secret = secret.expose_secret().into();
    };
    let Some(mut app) = TestApp::prepare(operator).await else { return };
    app.sandbox.receive("operator", &Receiver { secrets: vec![secret.expose_secret().to_owned()] }).unwrap();
    app.run().await;
    let (clinic, salon) = (app.company("clinica.test").await, app.company("salao.test").await);
    // The default company and these two were added: the operator is notified of that as well.
    let added = app.sandbox.seen(&Filter::taken().text("subscription.created"), 3, TIMEOUT).await.unwrap();
    assert!(added.iter().all(|it| it.number.as_deref() == Some("operator")));
    register_receiver(&app, &clinic, "clinica").await;
    for company in [&clinic, &salon] {
        ten_agents(&app, company).await;
        uses_agents(&app, company, 8, "first").await;
    }
    let crossings = Filter::taken().text("usage.threshold_reached");
    let accepted = app.sandbox.seen(&crossings, 3, TIMEOUT).await.unwrap();
    let expected = ["clinica clinica.test 80 8/10", "operator clinica.test 80 8/10", "operator salao.test 80 8/10"];
    assert_eq!(alerts(&accepted), expected);
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_answers_gone_is_not_called_until_a_replay() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    first_event_is_ignored(&app, &clinic).await;
    register_receiver(&app, &clinic, "clinica").await;
    ten_agents(&app, &clinic).await;
    let gone = Fault::Status { status: 410, body: Value::Null, headers: Default::default() };
    app.sandbox.fault(FaultRule::new(Target::Webhook, gone)).unwrap();
    uses_agents(&app, &clinic, 8, "first").await;
    app.comes_to("select concat_ws(' ', processor, cause, attempts) from dead_letters", "alerts gone 1").await;
    app.settles().await;
    assert_eq!(app.sandbox.count(&Filter::of(Target::Webhook)), 1, "it is not called twice");

    let db = Db::new(&app.settings.postgres.service_url, &app.settings.postgres, "dead_letters").unwrap();
    let everything = dead_letters::Filter { limit: 100, ..dead_letters::Filter::default() };
    dead_letters::replay(&db, &everything, "test", Run::Real).await.unwrap();
    let accepted = app.sandbox.seen(&Filter::taken(), 1, TIMEOUT).await.unwrap();
    assert_eq!(alerts(&accepted), ["clinica clinica.test 80 8/10"]);
    app.comes_to(
        "select string_agg(state, ' ') from event_outcomes where processor = 'alerts' and reason is null",
        "done",
    )
    .await;
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_becomes_a_dead_letter_and_delays_no_other() {
    let Some(app) = TestApp::start_with(|settings| {
        settings.alerts.retry_after_s = vec![5.0, 5.0];
        settings.alerts.timeout_ms = 300;
    })
    .await
    else {
        return;
    };
    let (clinic, salon) = (app.company("clinica.test").await, app.company("salao.test").await);
    for (company, name) in [(&clinic, "clinica"), (&salon, "salao")] {
        first_event_is_ignored(&app, company).await;
        register_receiver(&app, company, name).await;
        ten_agents(&app, company).await;
    }
    app.sandbox.fault(FaultRule::new(Target::Webhook, Fault::Hang { ms: 60_000 }).number("clinica").times(99)).unwrap();
    uses_agents(&app, &clinic, 8, "first").await;
    uses_agents(&app, &salon, 8, "first").await;
    app.comes_to("select concat_ws(' ', cause, attempts) from dead_letters", "timeout 3").await;
    assert_eq!(alerts(&app.sandbox.log(&Filter::taken())), ["salao salao.test 80 8/10"]);
    assert_eq!(
        app.one(
            "select string_agg(result, ' ' order by attempt) from webhook_attempts
                        where class is not null"
        )
        .await,
        "UNKNOWN UNKNOWN UNKNOWN"
    );
    app.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_in_the_middle_of_a_call_makes_it_again_under_the_same_id() {
    let _alone = BROKER.lock().await;
    let Some(mut app) = on_real_kafka(|settings| settings.alerts.timeout_ms = 30_000).await else { return };
    app.settings.http.listen = free_address();
    let clinic = app.add_company("clinica.test", Auth::Token("bridge-token".into())).await;
    register_receiver(&app, &clinic, "clinica").await;
    let late = FaultRule::new(Target::Webhook, Fault::Latency { ms: 60_000 }).text("threshold_reached");
    app.sandbox.fault(late).unwrap();
    let process = Process::begin(&app);
    process.ready(&app).await;
    app.sandbox.seen(&Filter::taken().text("subscription.created"), 1, TIMEOUT).await.unwrap();
    ten_agents(&app, &clinic).await;
    uses_agents(&app, &clinic, 8, "first").await;
    let crossings = Filter::taken().text("threshold_reached");
    app.sandbox.seen(&crossings, 1, TIMEOUT).await.unwrap();
    process.kill().await;

    let process = Process::begin(&app);
    let accepted = app.sandbox.seen(&crossings, 2, TIMEOUT).await.unwrap();
    assert_eq!(accepted[0].message_key, accepted[1].message_key, "the same webhook-id");
    assert_eq!(accepted[0].text, accepted[1].text, "and the same bytes");
    app.settles().await;
    assert_eq!(
        app.one(
            "select string_agg(result, ' ' order by attempt) from webhook_attempts
                        where company_id <> 1 group by event_id having count(*) > 1"
        )
        .await,
        "UNKNOWN DELIVERED"
    );
    process.kill().await;
}

#[test]
fn the_contracts_variable_names_the_operators_receiver() {
    let config = |extra: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretaria"));
        command.env_clear().env("BILLING_ALERT_WEBHOOK_URL", "https://operator.example/alerts").arg("config");
        let output = command.envs(extra.iter().copied()).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(config(&[]).contains("operator_webhook_url = \"https://operator.example/alerts\""));
    let newer = [("SECRETARIA__ALERTS__OPERATOR_WEBHOOK_URL", "https://other.example/")];
    assert!(config(&newer).contains("operator_webhook_url = \"https://other.example/\""), "the newer name wins");
    let inward = [("BILLING_ALERT_WEBHOOK_URL", "https://192.168.0.1/")];
    assert!(config(&inward).contains("`alerts.operator_webhook_url`"));
}
