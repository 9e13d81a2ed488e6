//! Effects on rows, inside one transaction: taking a message in, ending a turn.

use domain::{
    Envelope, EventId, Fact, IgnoreReason, InboundMessage, Kind, Mark, MessageId, OutboundMessage, ProcessorName,
    Purpose, SCHEMA, Topic, UsageEvent, header,
};
use jiff::Timestamp;
use metrics::counter;
use platform::intake::Fresh;
use platform::outbox::{self, Entry};
use platform::postgres::{Db, Failure, Transaction};
use platform::telemetry::chain;
use platform::{clock, marks, metric};

use super::allowance;
use super::claims::{Claim, Context};
use super::decide::{Ending, Outcome, Step};
use super::store::{self, Stored};
use crate::ledger::{self, Line};

/// Stores a message in its conversation and turn, or leaves it; says how its event stands.
pub(super) async fn take_in(
    tx: &Transaction<'_>,
    fresh: &Fresh<'_, InboundMessage>,
    step: Step,
    quiet: &store::Quiet,
) -> Result<Mark, Failure> {
    let Envelope { company_id: company, event_id, occurred_at, received_at, payload: ref message, .. } = fresh.envelope;
    if let Step::Ignore(reason) = step {
        return Ok(Mark::Ignored(reason));
    }
    let traceparent = fresh.record.header_text(header::TRACEPARENT);
    let message = message.in_present_form();
    let message = message.as_ref();
    if store::was_taken_before(tx, company, event_id, message).await? {
        return Ok(Mark::Ignored(IgnoreReason::Repeated));
    }
    let contact = store::contact(tx, company, message).await?;
    let (conversation, position) = store::place(tx, company, contact, message, occurred_at).await?;
    let id = MessageId::from(event_id);
    let turn = store::turn(tx, company, conversation, id, quiet, traceparent).await?;
    let stored = Stored {
        company,
        message: id,
        conversation,
        position,
        direction: "in",
        turn,
        body: &message.content.as_text(),
        content: serde_json::to_value(&message.content).ok(),
        provider_id: message.provider_id.as_deref(),
        occurred_at,
        received_at,
    };
    store::store(tx, &stored).await?;
    counter!(metric::MESSAGES_PROCESSED, "company" => metric::company_label(company), "kind" => "in").increment(1);
    Ok(Mark::InFlight)
}

/// Whether a result still counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is committed.
    Done,
    /// Somebody else has claimed the turn since; this result is void.
    Lost,
}

/// Commits a turn's end: the turn, our message, what is to be published, and the marks of everything it answered.
pub(super) async fn finish(db: &Db, claim: &Claim, context: &Context, ending: &Ending) -> Result<Finish, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let reply = ending.text.as_ref().map(|_| MessageId::reply_to(claim.company, claim.turn));
    let word = (ending.outcome.as_str(), ending.outcome.reason(), reply);
    if !store::end_turn(&tx, claim.company, claim.turn, claim.claim, word).await? {
        return Ok(Finish::Lost);
    }
    let now = clock::now();
    let answered = store::messages_of(&tx, claim.company, claim.turn).await?;
    let mut entries = Vec::new();
    if let (Some(text), Some(message)) = (&ending.text, reply) {
        // Without its conversation nothing is committed: a turn never ends as answered with nothing said.
        let Some(outbound) = say(&tx, claim, message, text, now).await? else { return Ok(Finish::Lost) };
        let (event, subject) = (EventId::from(message), claim.conversation.to_string());
        entries.push(envelop(claim, context, event, Topic::OutboundMessages, &subject, now, outbound));
        entries.extend(usage(claim, context, ending, &answered, now));
    } else {
        entries.extend(usage(claim, context, ending, &[], now));
    }
    let Some(entries) = entries.into_iter().collect::<Option<Vec<Entry>>>() else { return Ok(Finish::Lost) };
    outbox::push(&tx, &entries).await?;
    settle(&tx, claim, ending, now).await?;
    let mark = match ending.outcome {
        Outcome::Replied | Outcome::Fallback(_) => Mark::Done,
        Outcome::Ignored(reason) => Mark::Ignored(reason),
    };
    let ended: Vec<_> = answered.iter().map(|(it, _)| (claim.company, EventId::from(*it), mark)).collect();
    marks::end(&tx, ProcessorName::Reply, &ended).await?;
    tx.commit().await?;
    Ok(Finish::Done)
}

/// Gives back what was reserved and books what was used, under the keys of the events that metering will be told.
async fn settle(tx: &Transaction<'_>, claim: &Claim, ending: &Ending, now: Timestamp) -> Result<(), Failure> {
    allowance::give_back(tx, claim).await?;
    let lines = calls(claim, ending).map(|(event, fact)| Line {
        company: claim.company,
        idempotency_key: event.to_string(),
        fact,
        occurred_at: now,
    });
    ledger::book(tx, &lines.collect::<Vec<_>>()).await
}

/// Every model call that reported its tokens, and what it is booked under.
fn calls(claim: &Claim, ending: &Ending) -> impl Iterator<Item = (EventId, Fact)> {
    let event = |call| EventId::of_model_call(claim.company, claim.turn, claim.claim, call);
    ending.tokens.iter().zip(0..).map(move |(tokens, call)| (event(call), tokens.clone()))
}

async fn say(
    tx: &Transaction<'_>,
    claim: &Claim,
    message: MessageId,
    text: &str,
    now: Timestamp,
) -> Result<Option<OutboundMessage>, Failure> {
    let Some((position, channel, to)) = store::place_reply(tx, claim.company, claim.conversation, now).await? else {
        return Ok(None);
    };
    let stored = Stored {
        company: claim.company,
        message,
        conversation: claim.conversation,
        position,
        direction: "out",
        turn: claim.turn,
        body: text,
        content: None,
        provider_id: None,
        occurred_at: now,
        received_at: now,
    };
    store::store(tx, &stored).await?;
    counter!(metric::MESSAGES_PROCESSED, "company" => metric::company_label(claim.company), "kind" => "out")
        .increment(1);
    Ok(Some(OutboundMessage {
        message_id: message,
        conversation_id: claim.conversation,
        position,
        channel,
        to,
        body: text.to_owned(),
        purpose: Purpose::Reply,
    }))
}

/// The usage of a turn: every message it answered, the one it sends, every model call that reported its tokens.
fn usage(
    claim: &Claim,
    context: &Context,
    ending: &Ending,
    answered: &[(MessageId, Timestamp)],
    now: Timestamp,
) -> Vec<Option<Entry>> {
    let company = claim.company;
    let read = answered.iter().map(|(it, at)| (Fact::MessageIn.event_id(company, it.0), Fact::MessageIn, *at));
    let written =
        (!answered.is_empty()).then(|| (Fact::MessageOut.event_id(company, claim.turn.0), Fact::MessageOut, now));
    let calls = calls(claim, ending).map(|(event, fact)| (event, fact, now));
    read.chain(written)
        .chain(calls)
        .map(|(event, fact, at)| envelop(claim, context, event, Topic::UsageEvents, "", at, UsageEvent { fact }))
        .collect()
}

/// `None` if the record cannot be written, which our types always can; its turn then does not end.
fn envelop<T: serde::Serialize>(
    claim: &Claim,
    context: &Context,
    event_id: EventId,
    topic: Topic,
    subject: &str,
    at: Timestamp,
    payload: T,
) -> Option<Entry> {
    let kind = if topic == Topic::OutboundMessages { Kind::OutboundMessage } else { Kind::Usage };
    let company_id = claim.company;
    let envelope = Envelope { schema: SCHEMA, event_id, company_id, kind, occurred_at: at, received_at: at, payload };
    let placement = (context.spread, context.epoch);
    Entry::of_event(topic, subject, placement, &envelope, claim.traceparent.as_deref())
        .inspect_err(|problem| tracing::error!(error = chain(&problem), %event_id, "event cannot be written"))
        .ok()
}
