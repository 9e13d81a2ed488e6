//! Effects on rows, inside one transaction: the end of an attempt, and attempts whose end nobody saw.

use std::time::Duration;

use domain::{Mark, ProcessorName};
use metrics::{counter, gauge};
use platform::park::{self, Cause};
use platform::postgres::{Db, Failure, Transaction};
use platform::telemetry::chain;
use platform::{marks, metric};

use super::claims::{self, Claim};
use super::decide::{self, AttemptResult, Next, Standing};
use super::store::{self, Move};
use super::whaticket::Verdict;

/// Whether a result still counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is committed, and this is what follows.
    Done(AttemptResult, Next),
    /// The attempt had been given up for unknown before its result came.
    Lost,
}

/// Commits the end of an attempt.
pub(super) async fn finish(db: &Db, claim: &Claim, verdict: &Verdict, waits: &[Duration]) -> Result<Finish, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let finish = end(&tx, claim, verdict, waits).await?;
    tx.commit().await?;
    if let Finish::Done(result, next) = finish {
        count(result, next, verdict);
    }
    Ok(finish)
}

/// Settles attempts whose holder is gone: nobody knows what became of them. Each in a transaction of its own, so that
/// one that cannot be settled does not keep the others.
pub(super) async fn settle_abandoned(db: &Db, waits: &[Duration]) -> Result<(), Failure> {
    let verdict = Verdict::Unknown { class: "lease_ran_out" };
    let mut client = db.get().await?;
    for claim in claims::abandoned(&client).await? {
        let tx = client.transaction().await?;
        // Somebody else may have settled it, or its holder may have come back, since it was looked up.
        if !claims::is_abandoned(&tx, &claim).await? {
            continue;
        }
        let (company_id, attempt) = (claim.company.0, claim.attempt);
        match end(&tx, &claim, &verdict, waits).await {
            Ok(_) => tx.commit().await?,
            Err(problem) if problem.blames_the_data() => {
                tracing::error!(company_id, delivery = %claim.delivery, error = chain(&problem), "attempt cannot be settled");
                continue;
            }
            Err(problem) => return Err(problem),
        }
        counter!(metric::WHATICKET_ERRORS, "class" => "lease_ran_out").increment(1);
        tracing::warn!(company_id, delivery = %claim.delivery, attempt, "attempt is unknown: its holder is gone");
    }
    Ok(())
}

async fn end(tx: &Transaction<'_>, claim: &Claim, verdict: &Verdict, waits: &[Duration]) -> Result<Finish, Failure> {
    let standing = Standing {
        attempts: usize::try_from(claim.of_round).unwrap_or(usize::MAX),
        unknowns: usize::try_from(claim.unknowns).unwrap_or(usize::MAX),
        purpose: claim.purpose,
    };
    let (result, next) = decide::after(standing, verdict, waits);
    let to = match next {
        Next::Sent => Move::End("sent"),
        Next::GiveUp => Move::End("failed_permanent"),
        Next::Again(wait) => Move::Wait(wait.as_secs_f64()),
    };
    let unknown = i32::from(result == AttemptResult::Unknown);
    if !store::move_on(tx, claim, to, unknown).await? {
        return Ok(Finish::Lost);
    }
    store::end_attempt(tx, claim, result.as_str(), verdict.class()).await?;
    let mark = match next {
        Next::Again(_) => return Ok(Finish::Done(result, next)),
        Next::Sent => Mark::Done,
        Next::GiveUp => {
            give_up(tx, claim, verdict).await?;
            Mark::Parked
        }
    };
    marks::end(tx, ProcessorName::Delivery, &[(claim.company, claim.delivery, mark)]).await?;
    Ok(Finish::Done(result, next))
}

async fn give_up(tx: &Transaction<'_>, claim: &Claim, verdict: &Verdict) -> Result<(), Failure> {
    let class = verdict.class().unwrap_or("sent");
    let detail = match verdict {
        Verdict::Unknown { .. } => format!("nobody knows whether it was sent ({class}); it is not sent a third time"),
        Verdict::Permanent { .. } => format!("provider refuses it for good ({class})"),
        Verdict::Temporary { .. } | Verdict::Sent => format!("provider refused every attempt, lastly with {class}"),
    };
    let cause = Cause { class, detail, attempts: claim.of_round };
    if let Some(record) = store::record(tx, claim).await? {
        park::park(tx, ProcessorName::Delivery, &store::parcel(claim, &record), &cause).await?;
    }
    Ok(())
}

fn count(result: AttemptResult, next: Next, verdict: &Verdict) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SENT: AtomicU64 = AtomicU64::new(0);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    if result == AttemptResult::Sent {
        counter!(metric::WHATICKET_SUCCESS).increment(1);
        SENT.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(class) = verdict.class() {
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
