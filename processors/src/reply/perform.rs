//! Effects on rows, inside one transaction: taking a message in, ending turns.

use domain::{
    Activity, CompanyId, ContactId, ConversationId, Envelope, EventId, Fact, IgnoreReason, InboundMessage, Kind, Mark,
    MessageId, OutboundMessage, Purpose, SCHEMA, Topic, TurnEnded, TurnId, UsageEvent, header,
};
use jiff::Timestamp;
use metrics::counter;
use platform::intake::{Fresh, Taken};
use platform::outbox::{self, Entry};
use platform::postgres::{Failure, Transaction};
use platform::{marks, metric};

use super::context::Turn;
use super::decide::{Outcome, Step, TurnEnd};
use super::ends::{self, Answered, ReplyPlace};
use super::store::{self, Placing, Stored};
use super::{PROCESSOR, allowance, contacts};
use crate::ledger::{self, Line};

/// Stores messages in their conversations and turns, or leaves them; says how each event stands, and which turns were
/// opened.
pub(super) async fn take_in(
    tx: &Transaction<'_>,
    fresh: &[Fresh<'_, InboundMessage>],
    steps: &[Step],
    quiet: &store::Quiet,
) -> Result<Taken, Failure> {
    let mut marks: Vec<Mark> = Vec::with_capacity(fresh.len());
    let mut collected = Vec::with_capacity(fresh.len());
    for (it, step) in fresh.iter().zip(steps) {
        match step {
            Step::Ignore(reason) => marks.push(Mark::Ignored(*reason)),
            Step::Collect => {
                collected.push((marks.len(), it, it.envelope.payload.in_present_form()));
                marks.push(Mark::InFlight);
            }
        }
    }
    let written: Vec<(CompanyId, &InboundMessage)> =
        collected.iter().map(|(_, it, message)| (it.envelope.company_id, &**message)).collect();
    let contacts = contacts::find(tx, &written).await?;
    let events: Vec<(CompanyId, EventId, &InboundMessage)> =
        collected.iter().map(|(_, it, message)| (it.envelope.company_id, it.envelope.event_id, &**message)).collect();
    let repeated = store::taken_before(tx, &events).await?;
    let mut placing = Vec::with_capacity(collected.len());
    for ((place, it, message), contact) in collected.iter().zip(contacts) {
        let (company, event) = (it.envelope.company_id, it.envelope.event_id);
        if repeated.contains(&event) {
            marks[*place] = Mark::Ignored(IgnoreReason::Repeated);
            continue;
        }
        placing.push(Placing {
            company,
            contact,
            conversation: ConversationId::with(company, contact),
            message,
            id: MessageId::from(event),
            occurred_at: it.envelope.occurred_at,
            received_at: it.envelope.received_at,
            traceparent: it.record.header_text(header::TRACEPARENT),
        });
    }
    if placing.is_empty() {
        return Ok(Taken::from(marks));
    }
    let positions = store::place(tx, &placing).await?;
    let (turns, jobs) = store::turns(tx, &placing, quiet).await?;
    store_messages(tx, &placing, &positions, &turns).await?;
    Ok(Taken { marks, jobs })
}

async fn store_messages(
    tx: &Transaction<'_>,
    placing: &[Placing<'_>],
    positions: &[i64],
    turns: &[TurnId],
) -> Result<(), Failure> {
    let bodies: Vec<String> = placing.iter().map(|it| it.message.content.as_text()).collect();
    let stored = placing.iter().enumerate().map(|(place, it)| Stored {
        company: it.company,
        message: it.id,
        conversation: it.conversation,
        position: positions[place],
        direction: "in",
        turn: turns[place],
        body: &bodies[place],
        content: serde_json::to_value(&it.message.content).ok(),
        provider_id: it.message.provider_id.as_deref(),
        occurred_at: it.occurred_at,
        received_at: it.received_at,
    });
    let stored: Vec<Stored<'_>> = stored.collect();
    store::store(tx, &stored).await?;
    for it in placing {
        let company = metric::company_label(it.company);
        counter!(metric::MESSAGES_PROCESSED, "company" => company, "kind" => "in").increment(1);
    }
    Ok(())
}

/// Ends turns: each with our message, what is to be published, what it used, and the marks of everything it answered.
pub(super) async fn finish(tx: &Transaction<'_>, turns: &[(&Turn, &TurnEnd)], now: Timestamp) -> Result<(), Failure> {
    let replies: Vec<Option<MessageId>> = turns
        .iter()
        .map(|(turn, end)| end.text.as_ref().map(|_| MessageId::reply_to(turn.company, turn.turn)))
        .collect();
    // Conversations are locked before turns, as where messages come in.
    let places = say(tx, turns, &replies, now).await?;
    ends::end_turns(tx, turns, &replies).await?;
    let answered = ends::messages_of(tx, turns).await?;
    let mut entries = Vec::new();
    let mut lines = Vec::new();
    let mut marked = Vec::new();
    for (place, (turn, end)) in turns.iter().enumerate() {
        entries.extend(events(turn, end, replies[place].zip(places[place].as_ref()), &answered[place], now)?);
        lines.extend(calls(turn, end).map(|(event, fact)| Line {
            company: turn.company,
            idempotency_key: event.to_string(),
            fact,
            occurred_at: now,
        }));
        let mark = match end.outcome {
            Outcome::Replied | Outcome::Fallback(_) => Mark::Done,
            Outcome::Ignored(reason) => Mark::Ignored(reason),
        };
        marked.extend(answered[place].iter().map(|it| (turn.company, EventId::from(it.message), mark)));
    }
    outbox::push(tx, &entries).await?;
    marks::end(tx, PROCESSOR.name, &marked).await?;
    // Last, because all turns of a company wait for its counters. Gives back what was reserved and books what was used,
    // under the keys of the events that metering will be told.
    let mut claims: Vec<_> = turns.iter().map(|(turn, _)| (turn.company, turn.turn, turn.claim)).collect();
    claims.sort_unstable();
    allowance::give_back(tx, &claims).await?;
    ledger::book(tx, &lines).await
}

/// Counts a turn whose end is committed.
pub(super) fn count(turn: &Turn, end: &TurnEnd) {
    if end.text.is_some() {
        let company = metric::company_label(turn.company);
        counter!(metric::MESSAGES_PROCESSED, "company" => company, "kind" => "out").increment(1);
    }
}

/// Every model call that reported its tokens, and what it is booked under.
fn calls(turn: &Turn, end: &TurnEnd) -> impl Iterator<Item = (EventId, Fact)> {
    let event = |call| EventId::of_model_call(turn.company, turn.turn, turn.claim, call);
    end.tokens.iter().zip(0..).map(move |(tokens, call)| (event(call), tokens.clone()))
}

/// Stores what is said, each in its place in its conversation.
async fn say(
    tx: &Transaction<'_>,
    turns: &[(&Turn, &TurnEnd)],
    replies: &[Option<MessageId>],
    now: Timestamp,
) -> Result<Vec<Option<ReplyPlace>>, Failure> {
    let speaking: Vec<&Turn> =
        turns.iter().zip(replies).filter(|(_, reply)| reply.is_some()).map(|((turn, _), _)| *turn).collect();
    let mut found = ends::place_replies(tx, &speaking, now).await?.into_iter();
    let mut places = Vec::with_capacity(turns.len());
    for reply in replies {
        places.push(reply.and_then(|_| found.next()).flatten());
    }
    let stored = turns.iter().zip(replies).zip(&places).filter_map(|(((turn, end), reply), place)| {
        Some(Stored {
            company: turn.company,
            message: (*reply)?,
            conversation: turn.conversation,
            position: place.as_ref()?.position,
            direction: "out",
            turn: turn.turn,
            body: end.text.as_deref()?,
            content: None,
            provider_id: None,
            occurred_at: now,
            received_at: now,
        })
    });
    let stored: Vec<Stored<'_>> = stored.collect();
    store::store(tx, &stored).await?;
    Ok(places)
}

/// What is to be published of a turn's end: what it says, what it used, and that it ended.
fn events(
    turn: &Turn,
    end: &TurnEnd,
    reply: Option<(MessageId, &ReplyPlace)>,
    answered: &[Answered],
    now: Timestamp,
) -> Result<Vec<Entry>, Failure> {
    let company = turn.company;
    let mut entries = Vec::new();
    if let (Some((message_id, place)), Some(text)) = (reply, &end.text) {
        let outbound = OutboundMessage {
            message_id,
            conversation_id: turn.conversation,
            position: place.position,
            channel: place.channel,
            to: place.send_to.clone(),
            body: text.clone(),
            purpose: Purpose::Reply,
        };
        let (event, subject) = (EventId::from(message_id), turn.conversation.to_string());
        entries.push(entry(turn, Topic::OutboundMessages, Kind::OutboundMessage, (event, &subject), now, outbound)?);
        let read = answered
            .iter()
            .map(|it| (Fact::MessageIn.event_id(company, it.message.0), Fact::MessageIn, it.occurred_at));
        let written = (Fact::MessageOut.event_id(company, turn.turn.0), Fact::MessageOut, now);
        let written = (!answered.is_empty()).then_some(written);
        for (event, fact, at) in read.chain(written) {
            entries.push(entry(turn, Topic::UsageEvents, Kind::Usage, (event, ""), at, UsageEvent { fact })?);
        }
    }
    for (event, fact) in calls(turn, end) {
        entries.push(entry(turn, Topic::UsageEvents, Kind::Usage, (event, ""), now, UsageEvent { fact })?);
    }
    let kind = Kind::TurnEnded;
    let event = EventId::of_end(company, kind.as_str(), turn.turn.0, 1);
    entries.push(entry(turn, Topic::ActivityEvents, kind, (event, ""), now, ended(turn, end, answered, now))?);
    Ok(entries)
}

fn ended(turn: &Turn, end: &TurnEnd, answered: &[Answered], now: Timestamp) -> Activity {
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
    (event_id, subject): (EventId, &str),
    at: Timestamp,
    payload: T,
) -> Result<Entry, Failure> {
    let company_id = turn.company;
    let envelope = Envelope { schema: SCHEMA, event_id, company_id, kind, occurred_at: at, received_at: at, payload };
    let placement = (turn.spread, turn.epoch);
    // Our types can always be written; if one cannot, its turn does not end.
    Entry::of_event(topic, subject, placement, &envelope, turn.traceparent.as_deref())
        .map_err(|problem| Failure::Refused(format!("event {event_id} cannot be written: {problem}")))
}
