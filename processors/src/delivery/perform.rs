//! Effects on rows, inside one transaction: the ends of attempts.

use domain::{Activity, DeliveryEnded, Envelope, EventId, Kind, Mark, SCHEMA, Topic};
use jiff::Timestamp;
use metrics::{counter, gauge};
use platform::outbox::{self, Entry};
use platform::park::{self, Cause};
use platform::postgres::{Failure, Transaction};
use platform::queue::{Claimed, Ending, Schedule};
use platform::{marks, metric};

use super::PROCESSOR;
use super::decide::{self, AttemptResult, Next, Standing};
use super::store::{self, AttemptEnd, Delivery, Ended};
use super::whaticket::{CIRCUIT_OPEN, Verdict};

/// An attempt and what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) claimed: &'a Claimed,
    pub(super) delivery: &'a Delivery,
    pub(super) verdict: &'a Verdict,
}

impl Attempt<'_> {
    /// What follows from it.
    pub(super) fn decide(&self, schedule: &Schedule) -> (AttemptResult, Next) {
        let standing = Standing {
            attempts: usize::try_from(self.delivery.of_round).unwrap_or(usize::MAX),
            unknowns: usize::try_from(self.delivery.unknowns).unwrap_or(usize::MAX),
            purpose: self.delivery.purpose,
        };
        decide::after(standing, self.verdict, schedule, self.claimed.chance())
    }
}

/// Ends attempts, and the deliveries that go no further; that those ended is published.
pub(super) async fn end(
    tx: &Transaction<'_>,
    attempts: &[Attempt<'_>],
    schedule: &Schedule,
    now: Timestamp,
) -> Result<Vec<Ending>, Failure> {
    let decided: Vec<(AttemptResult, Next)> = attempts.iter().map(|it| it.decide(schedule)).collect();
    let ends: Vec<AttemptEnd<'_>> = attempts
        .iter()
        .zip(&decided)
        .map(|(it, (result, next))| AttemptEnd {
            delivery: it.delivery,
            result: *result,
            class: it.verdict.class(),
            outcome: next.outcome(),
        })
        .collect();
    let ended = store::end_attempts(tx, &ends).await?;
    let mut marked = Vec::new();
    let mut endings = Vec::with_capacity(attempts.len());
    for (it, (_, next)) in attempts.iter().zip(&decided) {
        let (company, event) = (it.delivery.company, it.delivery.delivery);
        match next {
            Next::Again(wait) => {
                endings.push(Ending::Retry(*wait));
                continue;
            }
            Next::Sent => marked.push((company, event, Mark::Done)),
            Next::GiveUp => {
                give_up(tx, it).await?;
                marked.push((company, event, Mark::Parked));
            }
        }
        endings.push(Ending::Done);
    }
    let events = ended.iter().filter_map(|it| Some(event(attempts.get(it.place)?, it, now)));
    outbox::push(tx, &events.collect::<Result<Vec<Entry>, Failure>>()?).await?;
    marks::end(tx, PROCESSOR.name, &marked).await?;
    Ok(endings)
}

/// That a delivery ended. Its id is that of the claim that ended it: one that a replay ends again ends under another.
fn event(attempt: &Attempt<'_>, ended: &Ended, now: Timestamp) -> Result<Entry, Failure> {
    let (company_id, delivery_id, kind) = (attempt.delivery.company, attempt.delivery.delivery, Kind::DeliveryEnded);
    let event_id = EventId::of_end(company_id, kind.as_str(), delivery_id.0, attempt.claimed.lease.fence);
    let payload = Activity::Delivery(DeliveryEnded {
        delivery_id,
        conversation_id: ended.conversation,
        contact_id: ended.contact,
        outcome: ended.outcome.clone(),
        attempts: attempt.delivery.of_round.unsigned_abs(),
        took_ms: ended.took_ms,
    });
    let envelope = Envelope { schema: SCHEMA, event_id, company_id, kind, occurred_at: now, received_at: now, payload };
    let traceparent = attempt.claimed.traceparent.as_deref();
    Entry::of_event(Topic::ActivityEvents, "", ended.placement, &envelope, traceparent)
        .map_err(|problem| Failure::Refused(format!("event {event_id} cannot be written: {problem}")))
}

async fn give_up(tx: &Transaction<'_>, attempt: &Attempt<'_>) -> Result<(), Failure> {
    let class = attempt.verdict.class().unwrap_or("sent");
    let detail = match attempt.verdict {
        Verdict::Unknown { .. } => format!("nobody knows whether it was sent ({class}); it is not sent a third time"),
        Verdict::Permanent { class } if *class == CIRCUIT_OPEN => {
            "provider did not answer for as long as the retries last".to_owned()
        }
        Verdict::Permanent { .. } => format!("provider refuses it for good ({class})"),
        Verdict::Temporary { .. } | Verdict::Sent => format!("provider refused every attempt, lastly with {class}"),
    };
    let cause = Cause { class, detail, attempts: attempt.delivery.of_round };
    if let Some(record) = store::record(tx, attempt.delivery).await? {
        park::park(tx, PROCESSOR.name, &store::parcel(attempt.delivery, &record), &cause).await?;
    }
    Ok(())
}

/// Counts an attempt whose end is committed.
pub(super) fn count(attempt: &Attempt<'_>, schedule: &Schedule) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SENT: AtomicU64 = AtomicU64::new(0);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    let (result, next) = attempt.decide(schedule);
    if result == AttemptResult::Sent {
        counter!(metric::WHATICKET_SUCCESS).increment(1);
        SENT.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(class) = attempt.verdict.class() {
        counter!(metric::WHATICKET_ERRORS, "class" => class).increment(1);
    }
    match next {
        Next::Again(_) => counter!(metric::WHATICKET_RETRY).increment(1),
        Next::Sent | Next::GiveUp => {
            let ended = ENDED.fetch_add(1, Ordering::Relaxed) + 1;
            gauge!(metric::WHATICKET_RATIO).set(SENT.load(Ordering::Relaxed) as f64 / ended as f64);
        }
    }
}
