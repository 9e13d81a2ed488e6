//! reply's claims: decisions, handling of messages, claims of turns, and the rows that an answer leaves.

mod decide;
mod handle;
mod locks;
mod claims;
mod finish;
mod group;
mod allowance;
mod circuit;

use std::time::Duration;

use domain::{
    Address, Author, Channel, CompanyId, Content, Envelope, EventId, Fact, InboundMessage, Kind, MessageId, SCHEMA,
    Topic,
};
use platform::kafka::Record;
use platform::queue::{self, Ending, Health, Started, Steps};

use super::decide::{TurnEnd, TurnOutcome};
use super::work::ModelCalls;
use super::{Config, InboundMessageHandler, gemini, store};
use crate::tests::{Fixture, noon};

pub(crate) const MARIA: &str = "5511999990001";
pub(crate) const JOAO: &str = "5511999990002";

/// A handler whose turns are due at once.
fn handler() -> InboundMessageHandler {
    handler_with(0, 10_000)
}

fn handler_with(quiet_ms: u64, quiet_cap_ms: u64) -> InboundMessageHandler {
    let config = Config { quiet_ms, quiet_cap_ms, ..Config::default() };
    InboundMessageHandler { quiet: store::QuietPeriod::from(&config) }
}

/// The steps of a worker with a model URL at which nothing listens.
fn steps(fixture: &Fixture) -> Steps<ModelCalls> {
    steps_with(fixture, config())
}

fn config() -> Config {
    let model = gemini::Config { base_url: "http://127.0.0.1:9".into(), api_key: "chave".into(), ..Default::default() };
    Config { model, ..Config::default() }
}

fn steps_with(fixture: &Fixture, config: Config) -> Steps<ModelCalls> {
    fixture.steps(ModelCalls::new(&fixture.context(), &config).unwrap(), config.runner)
}

/// A text from a phone; the text also serves as the provider's id.
pub(crate) fn text(phone: &str, body: &str) -> InboundMessage {
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
pub(crate) fn id(company: CompanyId, message: &InboundMessage) -> EventId {
    let provider_id = message.provider_id.as_deref().unwrap();
    EventId::of_provider_message(company, message.channel, &message.address, message.author, provider_id)
}

fn records(fixture: &Fixture, company: CompanyId, messages: &[InboundMessage]) -> Vec<Record> {
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
        fixture.record(Topic::InboundMessages, message.address.as_str(), &envelope)
    };
    messages.iter().map(record).collect()
}

/// Handles messages of one company, in one batch.
pub(crate) async fn receive(fixture: &Fixture, company: CompanyId, messages: &[InboundMessage]) {
    fixture.consume(&handler(), &records(fixture, company, messages)).await.unwrap();
}

async fn claim(steps: &Steps<ModelCalls>, most: usize) -> Vec<Started<ModelCalls>> {
    steps.claim(most).await.unwrap()
}

/// Claims the one turn that is due.
async fn claim_one(steps: &Steps<ModelCalls>) -> Started<ModelCalls> {
    let mut started = claim(steps, 10).await;
    assert_eq!(started.len(), 1);
    started.remove(0)
}

/// An answer that cost one model call.
fn answer(text: &str) -> TurnEnd {
    let tokens = Fact::ModelTokens { model: "gemini-test".into(), input: 100, output: 10, cached: 1 };
    TurnEnd {
        outcome: TurnOutcome::Replied,
        text: Some(text.to_owned()),
        tokens: vec![tokens],
        model: Some("gemini-test".into()),
        health: Health::Healthy,
    }
}

/// Commits the end of a turn; `None` if the lease was lost.
async fn finish(steps: &Steps<ModelCalls>, turn: &Started<ModelCalls>, end: &TurnEnd) -> Option<Ending> {
    steps.finish(turn, end).await.unwrap()
}

/// Answers every turn that is due with the same text; returns the history of each.
pub(crate) async fn answer_due(fixture: &Fixture, reply_text: &str) -> Vec<Vec<String>> {
    let steps = steps(fixture);
    let mut histories = Vec::new();
    for turn in claim(&steps, 10).await {
        assert_eq!(finish(&steps, &turn, &answer(reply_text)).await, Some(Ending::Done));
        histories.push(history(&turn));
    }
    histories
}

/// The history of a turn, our own texts behind an arrow.
fn history(turn: &Started<ModelCalls>) -> Vec<String> {
    turn.job.history.iter().map(|(ours, text)| format!("{}{text}", if *ours { "> " } else { "" })).collect()
}

async fn turns(fixture: &Fixture) -> Vec<String> {
    let sql = "select t.state, t.outcome, t.claims, string_agg(m.body, ', ' order by m.position)
               from turns t left join messages m using (company_id, turn_id)
               group by t.company_id, t.turn_id order by min(m.position), 4";
    fixture.rows(sql).await
}

async fn outcomes(fixture: &Fixture) -> Vec<String> {
    fixture
        .rows(
            "select state, reason, count(*) from event_outcomes where processor = 'reply' group by 1, 2 order by 1, 2",
        )
        .await
}

fn reply_of(turn: &Started<ModelCalls>) -> EventId {
    EventId::from(MessageId::reply_to(turn.job.company, turn.job.turn))
}
