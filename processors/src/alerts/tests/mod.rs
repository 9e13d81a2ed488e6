//! alerts' claims: which endpoints are called with what, what follows a call, and when an event has ended.

mod call;
mod circuit;
mod decide;
mod group;
mod rows;

use std::time::Duration;

use domain::{Alert, CompanyId, Envelope, EventId, Kind, SCHEMA, SubscriptionChange, Threshold};
use jiff::Timestamp;
use platform::attempt::Verdict;
use platform::kafka::Record;
use platform::queue::{Ending, Started, Steps};
use platform::seal::SecretColumn;
use uuid::Uuid;

use super::decide::ReceiverResponse;
use super::work::Calling;
use super::*;
use crate::tests::{Fixture, noon, sealer};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn id(word: &str) -> EventId {
    EventId(Uuid::new_v5(&Uuid::NAMESPACE_OID, word.as_bytes()))
}

fn envelope(company: CompanyId, word: &str, kind: Kind, payload: Alert) -> Envelope<Alert> {
    let (event_id, at) = (id(word), noon());
    Envelope { schema: SCHEMA, event_id, company_id: company, kind, occurred_at: at, received_at: at, payload }
}

/// A company has used eight of ten agents.
fn crossing(company: CompanyId, word: &str) -> Envelope<Alert> {
    let crossed = Threshold {
        feature: "agents".into(),
        threshold: 80,
        limit: 10,
        used: 8,
        threshold_epoch: 1,
        period_start: Some("2026-03-01T03:00:00Z".parse().unwrap()),
        period_end: None,
    };
    envelope(company, word, Kind::UsageThreshold, Alert::Threshold(crossed))
}

/// The status of a company's subscription has changed.
fn status_change(company: CompanyId) -> Envelope<Alert> {
    let detail = serde_json::json!({ "from": "active", "to": "past_due", "company": "another" });
    let change = SubscriptionChange {
        subscription_id: Uuid::from_u128(7),
        subscription_event_id: Uuid::from_u128(8),
        detail: detail.as_object().unwrap().clone(),
    };
    envelope(company, "status_change", Kind::SubscriptionStatusChanged, Alert::SubscriptionChange(change))
}

/// Settings with an operator's receiver on this machine.
fn operator_config(url: &str) -> Config {
    Config {
        operator_webhook_url: url.to_owned(),
        operator_webhook_secret: SECRET.into(),
        allow_private: true,
        ..Config::default()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Waits of a schedule that is due at once.
const AT_ONCE: [f64; 2] = [0.0; 2];

fn handler(operator: bool) -> AlertHandler {
    AlertHandler { operator }
}

/// The steps of a worker of that instance, with a schedule that is due at once.
fn steps_of(fixture: &Fixture, instance: &str) -> Steps<Calling> {
    let config = Config { retry_after_s: AT_ONCE.to_vec(), ..Config::default() };
    fixture.steps_of(instance, Calling::new(&fixture.context(), &config, None).unwrap(), config.runner)
}

fn steps(fixture: &Fixture) -> Steps<Calling> {
    steps_of(fixture, "one")
}

/// The steps of a worker with these settings and their operator.
fn steps_with(fixture: &Fixture, config: &Config) -> Steps<Calling> {
    let work = Calling::new(&fixture.context(), config, config.operator().unwrap()).unwrap();
    fixture.steps(work, config.runner)
}

fn record(fixture: &Fixture, envelope: &Envelope<Alert>) -> Record {
    fixture.record(Topic::Alerts, "", envelope)
}

/// Gives a company a webhook, signed with [`SECRET`].
async fn add_webhook(fixture: &Fixture, company: CompanyId, url: &str) {
    let place = SecretColumn { table: "company_webhooks", column: "secret_sealed", company };
    let sealed = sealer().seal(place, SECRET.as_bytes()).unwrap();
    let sql = "insert into company_webhooks (company_id, url, secret_sealed) values ($1, $2, $3)";
    fixture.root.execute(sql, &[&company.0, &url, &sealed]).await.unwrap();
}

/// A company with a webhook, and one alert of it per word.
async fn with_alerts(fixture: &Fixture, operator: bool, words: &[&str]) -> CompanyId {
    let clinic = fixture.company("clinica.test").await;
    add_webhook(fixture, clinic, "https://clinica.example/").await;
    let records: Vec<Record> = words.iter().map(|word| record(fixture, &crossing(clinic, word))).collect();
    fixture.consume(&handler(operator), &records).await.unwrap();
    clinic
}

async fn claim(steps: &Steps<Calling>) -> Vec<Started<Calling>> {
    let mut started = steps.claim(10).await.unwrap();
    started.sort_by_key(|it| (it.job.event, it.job.endpoint));
    started
}

/// Commits a response; `None` if the lease was lost.
async fn finish(
    steps: &Steps<Calling>,
    started: &Started<Calling>,
    response: impl Into<ReceiverResponse>,
) -> Option<Ending> {
    steps.finish(started, &response.into()).await.unwrap()
}

async fn rows(fixture: &Fixture) -> Vec<String> {
    fixture
        .rows("select endpoint, state, outcome, cause, attempts from webhook_deliveries order by event_id, endpoint")
        .await
}

async fn attempts(fixture: &Fixture) -> Vec<String> {
    let sql = "select endpoint, attempt, of_round, result, status, class from webhook_attempts
               order by event_id, endpoint, attempt";
    fixture.rows(sql).await
}

async fn outcomes(fixture: &Fixture) -> Vec<String> {
    let sql = "select state, reason, count(*) from event_outcomes where processor = 'alerts' group by 1, 2 order by 1";
    fixture.rows(sql).await
}

async fn dead_letters(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select state, cause, detail, attempts from dead_letters order by dead_lettered_at").await
}

const ACCEPTED: ReceiverResponse = ReceiverResponse { verdict: Verdict::Done, status: Some(204) };
const GONE: ReceiverResponse = ReceiverResponse { verdict: Verdict::permanent("gone"), status: Some(410) };
const BUSY: ReceiverResponse = ReceiverResponse { verdict: Verdict::temporary("server_error"), status: Some(500) };
