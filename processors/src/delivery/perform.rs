//! Effects on rows, inside one transaction: how attempts and deliveries end.

use domain::{Activity, DeliveryEnded, Envelope, EventId, EventOutcome, Kind, SCHEMA, Topic};
use jiff::Timestamp;
use metrics::{counter, gauge};
use platform::attempt::{AttemptResult, Next, Outcome, Verdict};
use platform::dead_letter::{self, Cause};
use platform::outbox::{self, Entry};
use platform::postgres::{Failure, Transaction};
use platform::queue::{Ending, Schedule};
use platform::{metric, outcomes};

use super::PROCESSOR;
use super::decide::{self, Round};
use super::store::{self, Attempt, EndedDelivery};
use super::whaticket::CIRCUIT_OPEN;

fn after(attempt: &Attempt<'_>, schedule: &Schedule) -> (AttemptResult, Next) {
    let delivery = attempt.job;
    let round = Round { attempts: delivery.of_round, unknowns: delivery.unknowns, purpose: delivery.purpose };
    decide::after(round, attempt.output, schedule, attempt.claimed.jitter_factor())
}

/// Ends attempts, and the deliveries that are not retried. Publishes an event for each delivery that ended.
pub(super) async fn end(
    tx: &Transaction<'_>,
    attempts: &[Attempt<'_>],
    schedule: &Schedule,
    now: Timestamp,
) -> Result<Vec<Ending>, Failure> {
    let decided: Vec<(AttemptResult, Next)> = attempts.iter().map(|it| after(it, schedule)).collect();
    let ended = store::end_attempts(tx, attempts, &decided).await?;
    let mut ended_events = Vec::new();
    let mut endings = Vec::with_capacity(attempts.len());
    for (it, (_, next)) in attempts.iter().zip(&decided) {
        let outcome = match next {
            Next::Retry(wait) => {
                endings.push(Ending::Retry(*wait));
                continue;
            }
            Next::End(Outcome::Done) => EventOutcome::Done,
            // No message is withdrawn so far.
            Next::End(Outcome::FailedPermanent | Outcome::Withdrawn) => {
                add_dead_letter(tx, it).await?;
                EventOutcome::DeadLettered
            }
        };
        ended_events.push((it.job.company, it.job.delivery, outcome));
        endings.push(Ending::Done);
    }
    let events = ended.iter().filter_map(|it| Some(event(attempts.get(it.index)?, it, now)));
    outbox::push(tx, &events.collect::<Result<Vec<Entry>, Failure>>()?).await?;
    outcomes::record(tx, PROCESSOR.name, &ended_events).await?;
    Ok(endings)
}

/// The event of a delivery that ended. The claim that ended it is part of its id, so that a delivery that a replay ends
/// again has another event.
fn event(attempt: &Attempt<'_>, ended: &EndedDelivery, now: Timestamp) -> Result<Entry, Failure> {
    let (company_id, delivery_id, kind) = (attempt.job.company, attempt.job.delivery, Kind::DeliveryEnded);
    let event_id = EventId::of_end(company_id, kind.as_str(), delivery_id.0, attempt.claimed.lease.fence);
    let payload = Activity::Delivery(DeliveryEnded {
        delivery_id,
        conversation_id: ended.conversation,
        contact_id: ended.contact,
        outcome: ended.outcome.clone(),
        attempts: attempt.job.of_round.unsigned_abs(),
        took_ms: ended.took_ms,
    });
    let envelope = Envelope { schema: SCHEMA, event_id, company_id, kind, occurred_at: now, received_at: now, payload };
    let traceparent = attempt.claimed.traceparent.as_deref();
    Entry::of_event(Topic::ActivityEvents, "", ended.placement, &envelope, traceparent)
}

async fn add_dead_letter(tx: &Transaction<'_>, attempt: &Attempt<'_>) -> Result<(), Failure> {
    let (delivery, class) = (attempt.job, attempt.output.class().unwrap_or("sent"));
    let detail = match attempt.output {
        Verdict::Unknown { .. } => format!("it is unknown whether it was sent ({class}); it is not sent a third time"),
        Verdict::Permanent { class } if *class == CIRCUIT_OPEN => {
            "provider did not answer for as long as the retries last".to_owned()
        }
        Verdict::Permanent { .. } => format!("provider refuses it for good ({class})"),
        _ => format!("provider refused every attempt, lastly with {class}"),
    };
    let cause = Cause { class: class.into(), detail, attempts: delivery.of_round };
    Ok(dead_letter::add_recorded(tx, PROCESSOR.name, store::RECORDS, (delivery.company, delivery.delivery), &cause)
        .await?)
}

/// Counts an attempt whose end is committed.
pub(super) fn count(attempt: &Attempt<'_>, schedule: &Schedule) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SENT: AtomicU64 = AtomicU64::new(0);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    let (result, next) = after(attempt, schedule);
    if result == AttemptResult::Done {
        counter!(metric::WHATICKET_SUCCESS).increment(1);
        SENT.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(class) = attempt.output.class() {
        counter!(metric::WHATICKET_ERRORS, "class" => class).increment(1);
    }
    match next {
        Next::Retry(_) => counter!(metric::WHATICKET_RETRY).increment(1),
        Next::End(_) => {
            let ended = ENDED.fetch_add(1, Ordering::Relaxed) + 1;
            gauge!(metric::WHATICKET_RATIO).set(SENT.load(Ordering::Relaxed) as f64 / ended as f64);
        }
    }
}
