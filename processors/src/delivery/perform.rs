//! Effects on rows, inside one transaction: the ends of attempts.

use domain::Mark;
use metrics::{counter, gauge};
use platform::park::{self, Cause};
use platform::postgres::{Failure, Transaction};
use platform::queue::{Ending, Schedule};
use platform::{marks, metric};

use super::PROCESSOR;
use super::decide::{self, AttemptResult, Next, Standing};
use super::store::{self, AttemptEnd, Delivery};
use super::whaticket::{CIRCUIT_OPEN, Verdict};

/// An attempt and what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) verdict: &'a Verdict,
    /// For the jitter of the next one.
    pub(super) chance: f64,
}

impl Attempt<'_> {
    /// What follows from it.
    pub(super) fn decide(&self, schedule: &Schedule) -> (AttemptResult, Next) {
        let standing = Standing {
            attempts: usize::try_from(self.delivery.of_round).unwrap_or(usize::MAX),
            unknowns: usize::try_from(self.delivery.unknowns).unwrap_or(usize::MAX),
            purpose: self.delivery.purpose,
        };
        decide::after(standing, self.verdict, schedule, self.chance)
    }
}

/// Ends attempts, and the deliveries that go no further.
pub(super) async fn end(
    tx: &Transaction<'_>,
    attempts: &[Attempt<'_>],
    schedule: &Schedule,
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
    store::end_attempts(tx, &ends).await?;
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
    marks::end(tx, PROCESSOR.name, &marked).await?;
    Ok(endings)
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
