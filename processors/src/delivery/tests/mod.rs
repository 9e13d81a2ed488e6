//! delivery's claims: what follows an attempt, in which order messages are sent, and which rows an attempt leaves.

mod circuit;
mod decide;
mod ended;
mod order;
mod dead_letters;

use std::time::Duration;

use domain::{
    Channel, CompanyId, ConversationId, Envelope, EventId, Kind, MessageId, OutboundMessage, Purpose, SCHEMA, Topic,
};
use platform::attempt::{AttemptResult, Next, Outcome, Verdict};
use platform::kafka::Record;
use platform::queue::{self, CircuitConfig, Ending, Schedule, Started, Steps};
use uuid::Uuid;

use super::work::Sending;
use super::{Config, OutboundMessageHandler};
use crate::tests::{Fixture, noon};

/// Waits of a schedule that is due at once.
const AT_ONCE: [f64; 5] = [0.0; 5];
/// Waits of a schedule that is not due within a test.
const LATER: [f64; 5] = [3_600.0; 5];
const AFTER_AN_HOUR: Ending = Ending::Retry(Duration::from_secs(3_600));

const BUSY: Verdict = Verdict::Temporary { class: "busy", retry_after: None };
const FORBIDDEN: Verdict = Verdict::Permanent { class: "forbidden" };
const SILENT: Verdict = Verdict::Unknown { class: "timeout" };
const UNREACHABLE: Verdict = Verdict::Temporary { class: "unreachable", retry_after: None };

/// The steps of a worker with this schedule.
fn steps(fixture: &Fixture, waits: &[f64]) -> Steps<Sending> {
    steps_of(fixture, "one", waits)
}

fn steps_of(fixture: &Fixture, instance: &str, waits: &[f64]) -> Steps<Sending> {
    let config = Config { retry_after_s: waits.to_vec(), ..Config::default() };
    fixture.steps_of(instance, Sending::new(&fixture.context(), &config).unwrap(), config.runner)
}

/// Steps whose circuits open with the first failure.
fn steps_that_open_at_once(fixture: &Fixture, waits: &[f64]) -> Steps<Sending> {
    let circuit = CircuitConfig { failures: 1, ..CircuitConfig::default() };
    let runner = queue::Config { circuit, ..queue::Config::default() };
    let config = Config { retry_after_s: waits.to_vec(), ..Config::default() };
    fixture.steps(Sending::new(&fixture.context(), &config).unwrap(), runner)
}

/// The id of a message, from its text.
fn id(body: &str) -> EventId {
    EventId(Uuid::new_v5(&Uuid::NAMESPACE_OID, body.as_bytes()))
}

fn record(fixture: &Fixture, company: CompanyId, conversation: u128, position: i64, body: &str) -> Record {
    let conversation_id = ConversationId(Uuid::from_u128(conversation));
    let payload = OutboundMessage {
        message_id: MessageId::from(id(body)),
        conversation_id,
        position,
        channel: Channel::Whaticket,
        to: "5511999990001".into(),
        body: body.into(),
        purpose: Purpose::Reply,
    };
    let envelope = Envelope {
        schema: SCHEMA,
        event_id: id(body),
        company_id: company,
        kind: Kind::OutboundMessage,
        occurred_at: noon(),
        received_at: noon(),
        payload,
    };
    fixture.record(Topic::OutboundMessages, &conversation_id.to_string(), &envelope)
}

/// Handles records of messages, each with its conversation, its position in that, and its text.
async fn receive(fixture: &Fixture, company: CompanyId, messages: &[(u128, i64, &str)]) {
    let records =
        messages.iter().map(|(conversation, position, body)| record(fixture, company, *conversation, *position, body));
    fixture.consume(&OutboundMessageHandler, &records.collect::<Vec<_>>()).await.unwrap();
}

/// Claims what is due; ordered by text.
async fn claim(steps: &Steps<Sending>) -> Vec<Started<Sending>> {
    let mut started = steps.claim(10).await.unwrap();
    started.sort_by(|one, other| one.job.body.cmp(&other.job.body));
    started
}

async fn claim_one(steps: &Steps<Sending>) -> Started<Sending> {
    let mut started = claim(steps).await;
    assert_eq!(started.len(), 1);
    started.remove(0)
}

/// The texts of what is due now; they are claimed.
async fn due(steps: &Steps<Sending>) -> Vec<String> {
    claim(steps).await.into_iter().map(|it| it.job.body).collect()
}

/// Commits a verdict; `None` if the lease was lost.
async fn finish(steps: &Steps<Sending>, started: &Started<Sending>, verdict: Verdict) -> Option<Ending> {
    steps.finish(started, &verdict).await.unwrap()
}

async fn deliveries(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select body, state, outcome, attempts, unknowns from deliveries order by body").await
}

async fn attempts(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select attempt, of_round, result, class from delivery_attempts order by delivery_id, attempt").await
}

async fn outcomes(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select state, count(*) from event_outcomes where processor = 'delivery' group by 1 order by 1").await
}
