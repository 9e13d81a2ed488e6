//! delivery's claims: what follows an attempt, who is sent when, and what is written down before and after.

mod decide;
mod order;
mod shelf;

use std::time::Duration;

use domain::{
    Channel, CompanyId, ConversationId, Envelope, EventId, Kind, MessageId, OutboundMessage, Purpose, SCHEMA, Topic,
};
use platform::kafka::Record;
use platform::runner::Wake;
use uuid::Uuid;

use super::claims::{self, Claim};
use super::decide::{AttemptResult, Next};
use super::perform::{self, Finish};
use super::whaticket::Verdict;
use super::{Config, Desk};
use crate::tests::{Room, noon};

const LONG: Duration = Duration::from_secs(3_600);
/// A schedule that is due at once.
const AT_ONCE: [Duration; 5] = [Duration::ZERO; 5];
/// A schedule that is not due within a test.
const LATER: [Duration; 5] = [LONG; 5];

const BUSY: Verdict = Verdict::Temporary { class: "busy", retry_after: None };
const FORBIDDEN: Verdict = Verdict::Permanent { class: "forbidden" };
const SILENT: Verdict = Verdict::Unknown { class: "timeout" };

fn desk() -> Desk {
    Desk { wake: Wake::default() }
}

/// The id of a message, from its text.
fn id(body: &str) -> EventId {
    EventId(Uuid::new_v5(&Uuid::NAMESPACE_OID, body.as_bytes()))
}

fn record(room: &Room<'_>, company: CompanyId, conversation: u128, position: i64, body: &str) -> Record {
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
    room.record(Topic::OutboundMessages, &conversation_id.to_string(), &envelope)
}

/// Takes messages in, each with its conversation, its place in that, and its text.
async fn hear(room: &Room<'_>, company: CompanyId, messages: &[(u128, i64, &str)]) {
    let records = messages.iter().map(|(conversation, place, body)| record(room, company, *conversation, *place, body));
    room.take_in(&desk(), &records.collect::<Vec<_>>()).await.unwrap();
}

/// Claims what is due, for as long as `lease`; ordered by text.
async fn claim_for(room: &Room<'_>, lease: Duration) -> Vec<Claim> {
    let mut claims = claims::claim(room.db(), 10, "one", lease).await.unwrap().jobs;
    claims.sort_by(|one, other| one.body.cmp(&other.body));
    claims
}

async fn claim(room: &Room<'_>) -> Vec<Claim> {
    claim_for(room, LONG).await
}

async fn claim_one(room: &Room<'_>) -> Claim {
    let mut claims = claim(room).await;
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

/// The texts of what is due now; they are claimed.
async fn due(room: &Room<'_>) -> Vec<String> {
    claim(room).await.into_iter().map(|it| it.body).collect()
}

async fn finish(room: &Room<'_>, claim: &Claim, verdict: &Verdict, waits: &[Duration]) -> Finish {
    perform::finish(room.db(), claim, verdict, waits).await.unwrap()
}

async fn deliveries(room: &Room<'_>) -> Vec<String> {
    room.rows("select body, state, outcome, attempts, unknowns from deliveries order by body").await
}

async fn attempts(room: &Room<'_>) -> Vec<String> {
    room.rows("select attempt, of_round, result, class from delivery_attempts order by delivery_id, attempt").await
}

async fn marks(room: &Room<'_>) -> Vec<String> {
    room.rows("select state, count(*) from event_marks where processor = 'delivery' group by 1 order by 1").await
}
