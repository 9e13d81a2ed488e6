//! reply's claims: what is decided, what is taken in, who may answer, and what an answer leaves behind.

mod decide;
mod intake;
mod claims;
mod finish;
mod allowance;
mod division;

use std::time::Duration;

use domain::{
    Address, Author, Channel, CompanyId, Content, Envelope, EventId, Fact, InboundMessage, Kind, MessageId, SCHEMA,
    Topic,
};
use platform::kafka::Record;
use platform::runner::Wake;

use super::claims::{Claim, Context};
use super::decide::{Ending, Outcome};
use super::perform::Finish;
use super::{Config, Desk, perform, store};
use crate::tests::{Room, noon};

const MARIA: &str = "5511999990001";
const JOAO: &str = "5511999990002";
const LONG: Duration = Duration::from_secs(3_600);

/// Takes messages in; their turns are due at once.
fn desk() -> Desk {
    desk_with(0, 10_000)
}

fn desk_with(quiet_ms: u64, quiet_cap_ms: u64) -> Desk {
    let config = Config { quiet_ms, quiet_cap_ms, ..Config::default() };
    Desk { quiet: store::Quiet::from(&config), wake: Wake::default() }
}

/// A text from a phone; the text also serves as the provider's id.
fn text(phone: &str, body: &str) -> InboundMessage {
    let address = Address::phone(phone).unwrap();
    InboundMessage {
        channel: Channel::Whaticket,
        aliases: vec![address.clone()],
        address,
        reply_to: phone.to_owned(),
        provider_id: Some(body.to_owned()),
        author: Author::Contact,
        name: None,
        content: Content::Text { body: body.to_owned() },
        quotes: None,
        ignore: None,
    }
}

/// The id of a company's message.
fn id(company: CompanyId, message: &InboundMessage) -> EventId {
    let provider_id = message.provider_id.as_deref().unwrap();
    EventId::of_provider_message(company, message.channel, &message.address, message.author, provider_id)
}

fn records(room: &Room<'_>, company: CompanyId, messages: &[InboundMessage]) -> Vec<Record> {
    let record = |message: &InboundMessage| {
        let envelope = Envelope {
            schema: SCHEMA,
            event_id: id(company, message),
            company_id: company,
            kind: Kind::InboundMessage,
            occurred_at: noon(),
            received_at: noon(),
            payload: message.clone(),
        };
        room.record(Topic::InboundMessages, message.address.as_str(), &envelope)
    };
    messages.iter().map(record).collect()
}

/// Takes messages of one company in, in one batch.
async fn hear(room: &Room<'_>, company: CompanyId, messages: &[InboundMessage]) {
    room.take_in(&desk(), &records(room, company, messages)).await.unwrap();
}

/// Claims up to `most` turns for an hour.
async fn claim(room: &Room<'_>, most: usize) -> Vec<Claim> {
    super::claims::claim(room.db(), most, "one", LONG).await.unwrap().jobs
}

/// Claims the one turn that is due.
async fn claim_one(room: &Room<'_>) -> Claim {
    let mut claims = claim(room, 10).await;
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

async fn context(room: &Room<'_>, claim: &Claim) -> Context {
    super::claims::context(room.db(), claim, 12).await.unwrap().unwrap()
}

/// An answer that cost one model call.
fn answer(text: &str) -> Ending {
    let tokens = Fact::ModelTokens { model: "gemini-test".into(), input: 100, output: 10, cached: 1 };
    Ending { outcome: Outcome::Replied, text: Some(text.to_owned()), tokens: vec![tokens] }
}

async fn finish(room: &Room<'_>, claim: &Claim, ending: &Ending) -> Finish {
    perform::finish(room.db(), claim, &context(room, claim).await, ending).await.unwrap()
}

async fn turns(room: &Room<'_>) -> Vec<String> {
    let sql = "select t.state, t.outcome, t.claims, string_agg(m.body, ', ' order by m.position)
               from turns t left join messages m using (company_id, turn_id)
               group by t.company_id, t.turn_id order by min(m.position), 4";
    room.rows(sql).await
}

async fn marks(room: &Room<'_>) -> Vec<String> {
    room.rows("select state, reason, count(*) from event_marks where processor = 'reply' group by 1, 2 order by 1, 2")
        .await
}

fn reply_of(claim: &Claim) -> EventId {
    EventId::from(MessageId::reply_to(claim.company, claim.turn))
}
