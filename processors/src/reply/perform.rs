//! Effects on rows, inside one transaction: storing messages in turns, and ending turns.

use domain::{
    Activity, ContactId, Envelope, EventId, EventOutcome, Fact, IgnoreReason, InboundMessage, Kind, MessageId, Purpose,
    SCHEMA, Topic, TurnEnded, UsageEvent,
};
use jiff::Timestamp;
use metrics::counter;
use platform::consumer::{Event, Handled};
use platform::outbox::{self, Entry};
use platform::postgres::{Failure, Transaction};
use platform::{metric, outcomes};

use super::context::Turn;
use super::decide::{MessageAction, TurnEnd, TurnOutcome};
use super::store::{self, AnsweredMessage};
use super::{PROCESSOR, allowance};
use crate::conversations::{self, NewMessage};
use crate::ledger::{self, LedgerLine};

/// Stores the messages that are collected, in their conversations and turns. Returns the outcome of every event, and
/// the jobs of the turns that were opened.
pub(super) async fn collect(
    tx: &Transaction<'_>,
    events: &[Event<'_, InboundMessage>],
    actions: &[MessageAction],
    quiet: &store::QuietPeriod,
) -> Result<Handled, Failure> {
    let collected: Vec<&Event<'_, InboundMessage>> =
        events.iter().zip(actions).filter(|(_, action)| **action == MessageAction::Collect).map(|(it, _)| it).collect();
    let mut received = conversations::receive(tx, &collected).await?.into_iter();
    let mut positioned = Vec::with_capacity(collected.len());
    let outcome = |action: &MessageAction| match action {
        MessageAction::Ignore(reason) => EventOutcome::Ignored(*reason),
        MessageAction::Collect => match received.next().flatten() {
            None => EventOutcome::Ignored(IgnoreReason::Repeated),
            Some(message) => {
                positioned.push(message);
                EventOutcome::InFlight
            }
        },
    };
    let outcomes: Vec<EventOutcome> = actions.iter().map(outcome).collect();
    if positioned.is_empty() {
        return Ok(Handled::from(outcomes));
    }
    let (turns, jobs) = store::turns(tx, &positioned, quiet).await?;
    conversations::store(tx, &positioned, &turns).await?;
    Ok(Handled { outcomes, jobs })
}

/// Ends turns: each with its outbound message, the events to publish, the usage, and the outcomes of the events it
/// answered.
pub(super) async fn finish(tx: &Transaction<'_>, turns: &[(&Turn, &TurnEnd)], now: Timestamp) -> Result<(), Failure> {
    let replies: Vec<NewMessage<'_>> = turns.iter().filter_map(|(turn, end)| reply(turn, end)).collect();
    // Conversations are locked before turns, as in `collect`.
    let mut sent = conversations::send(tx, &replies, now).await?.into_iter();
    store::end_turns(tx, turns).await?;
    let answered = store::messages_of(tx, turns).await?;
    let mut entries = Vec::new();
    let mut lines = Vec::new();
    let mut ended_events = Vec::new();
    for ((turn, end), answered) in turns.iter().zip(&answered) {
        let message = end.text.as_ref().and_then(|_| sent.next().flatten());
        entries.extend(events(turn, end, message, answered, now)?);
        lines.extend(calls(turn, end).map(|(event, fact)| LedgerLine {
            company: turn.company,
            idempotency_key: event.to_string(),
            fact,
            occurred_at: now,
        }));
        let outcome = match end.outcome {
            TurnOutcome::Replied | TurnOutcome::FixedText(_) => EventOutcome::Done,
            TurnOutcome::Ignored(reason) => EventOutcome::Ignored(reason),
        };
        ended_events.extend(answered.iter().map(|it| (turn.company, EventId::from(it.message), outcome)));
    }
    outbox::push(tx, &entries).await?;
    outcomes::record(tx, PROCESSOR.name, &ended_events).await?;
    // Last, because all turns of a company wait for its counters. The usage is booked under the ids of the events that
    // metering reads, so that metering does not book it a second time.
    let mut claims: Vec<_> = turns.iter().map(|(turn, _)| (turn.company, turn.turn, turn.claim)).collect();
    claims.sort_unstable();
    allowance::release(tx, &claims).await?;
    ledger::book(tx, &lines).await
}

/// Counts a turn whose end is committed.
pub(super) fn count(turn: &Turn, end: &TurnEnd) {
    if end.text.is_some() {
        let company = metric::company_label(turn.company);
        counter!(metric::MESSAGES_PROCESSED, "company" => company, "kind" => "out").increment(1);
    }
}

/// Every model call that reported its tokens, with the event id that it is booked under.
fn calls(turn: &Turn, end: &TurnEnd) -> impl Iterator<Item = (EventId, Fact)> {
    let event = |call| EventId::of_model_call(turn.company, turn.turn, turn.claim, call);
    end.tokens.iter().zip(0..).map(move |(tokens, call)| (event(call), tokens.clone()))
}

/// The outbound message of a turn, if it has one.
fn reply<'a>(turn: &'a Turn, end: &'a TurnEnd) -> Option<NewMessage<'a>> {
    Some(NewMessage {
        company: turn.company,
        conversation: turn.conversation,
        id: MessageId::reply_to(turn.company, turn.turn),
        turn: turn.turn,
        text: end.text.as_deref()?,
        purpose: Purpose::Reply,
        traceparent: turn.traceparent.as_deref(),
        placement: (turn.spread, turn.epoch),
    })
}

/// The outbox entries of a turn's end: its message, its usage, and that it ended.
fn events(
    turn: &Turn,
    end: &TurnEnd,
    message: Option<Entry>,
    answered: &[AnsweredMessage],
    now: Timestamp,
) -> Result<Vec<Entry>, Failure> {
    let company = turn.company;
    let mut used = Vec::new();
    if message.is_some() && !answered.is_empty() {
        let message_in =
            |it: &AnsweredMessage| (Fact::MessageIn.event_id(company, it.message.0), Fact::MessageIn, it.occurred_at);
        used.extend(answered.iter().map(message_in));
        used.push((Fact::MessageOut.event_id(company, turn.turn.0), Fact::MessageOut, now));
    }
    used.extend(calls(turn, end).map(|(event, fact)| (event, fact, now)));
    let mut entries = Vec::from_iter(message);
    for (event, fact, at) in used {
        entries.push(entry(turn, Topic::UsageEvents, Kind::Usage, event, at, UsageEvent { fact })?);
    }
    let event = EventId::of_end(company, Kind::TurnEnded.as_str(), turn.turn.0, 1);
    let ended = ended(turn, end, answered, now);
    entries.push(entry(turn, Topic::ActivityEvents, Kind::TurnEnded, event, now, ended)?);
    Ok(entries)
}

fn ended(turn: &Turn, end: &TurnEnd, answered: &[AnsweredMessage], now: Timestamp) -> Activity {
    let first = answered.iter().map(|it| it.received_at).min().unwrap_or(now);
    Activity::Turn(TurnEnded {
        turn_id: turn.turn,
        conversation_id: turn.conversation,
        contact_id: ContactId(turn.contact),
        messages_in: u32::try_from(answered.len()).unwrap_or(u32::MAX),
        outcome: end.outcome.as_str().to_owned(),
        reason: end.outcome.reason().map(str::to_owned),
        answer_ms: u64::try_from(now.duration_since(first).as_millis()).unwrap_or(0),
        model: end.model.clone(),
    })
}

fn entry<T: serde::Serialize>(
    turn: &Turn,
    topic: Topic,
    kind: Kind,
    event_id: EventId,
    at: Timestamp,
    payload: T,
) -> Result<Entry, Failure> {
    let company_id = turn.company;
    let envelope = Envelope { schema: SCHEMA, event_id, company_id, kind, occurred_at: at, received_at: at, payload };
    Entry::of_event(topic, "", (turn.spread, turn.epoch), &envelope, turn.traceparent.as_deref())
}
