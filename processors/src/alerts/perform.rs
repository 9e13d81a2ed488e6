//! Effects on rows, inside one transaction: the end of an attempt, and attempts whose end nobody saw.

use std::time::Duration;

use domain::{Mark, ProcessorName};
use metrics::counter;
use platform::park::{self, Cause};
use platform::postgres::{Db, Failure, Transaction};
use platform::telemetry::chain;
use platform::{marks, metric};

use super::claims::{self, Claim};
use super::decide::{self, AttemptResult, Next, Outcome};
use super::store::{self, Move, Share};
use super::verdict::{Class, Verdict};

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
    let shares = store::hold(&tx, claim).await?;
    if !shares.iter().any(|it| it.is_latest) {
        return Ok(Finish::Lost);
    }
    let (result, next) = end(&tx, claim, shares, verdict, waits).await?;
    tx.commit().await?;
    count(claim, next, verdict);
    Ok(Finish::Done(result, next))
}

/// Settles attempts whose holder is gone: they may have arrived, and are made again. Each in a transaction of its own,
/// so that one that cannot be settled does not keep the others.
pub(super) async fn settle_abandoned(db: &Db, waits: &[Duration]) -> Result<(), Failure> {
    let verdict = Verdict::again(Class::LeaseRanOut);
    let mut client = db.get().await?;
    for claim in claims::abandoned(&client).await? {
        let tx = client.transaction().await?;
        let shares = store::hold(&tx, &claim).await?;
        // Somebody else may have settled it, or its holder may have come back, since it was looked up.
        if !shares.iter().any(|it| it.is_latest && it.is_abandoned) {
            continue;
        }
        let (company_id, attempt) = (claim.company.0, claim.attempt);
        match end(&tx, &claim, shares, &verdict, waits).await {
            Ok((_, next)) => {
                tx.commit().await?;
                count(&claim, next, &verdict);
            }
            Err(problem) if problem.blames_the_data() => {
                tracing::error!(company_id, event = %claim.event, error = chain(&problem), "attempt cannot be settled");
                continue;
            }
            Err(problem) => return Err(problem),
        }
        let endpoint = claim.endpoint.as_str();
        tracing::warn!(company_id, event = %claim.event, endpoint, attempt, "attempt is unknown: its holder is gone");
    }
    Ok(())
}

/// Ends the attempt, and with the last share of an event the event.
async fn end(
    tx: &Transaction<'_>,
    claim: &Claim,
    mut shares: Vec<Share>,
    verdict: &Verdict,
    waits: &[Duration],
) -> Result<(AttemptResult, Next), Failure> {
    let attempts = usize::try_from(claim.of_round).unwrap_or(usize::MAX);
    let (result, next) = decide::after(attempts, verdict, waits);
    store::end_attempt(tx, claim, result.as_str(), verdict.status(), verdict.class()).await?;
    let outcome = match next {
        Next::Again(wait) => {
            store::move_on(tx, claim, Move::Wait(wait.as_secs_f64())).await?;
            return Ok((result, next));
        }
        Next::End(outcome) => outcome,
    };
    let cause = verdict.class().filter(|_| outcome == Outcome::FailedPermanent);
    store::move_on(tx, claim, Move::End(outcome, cause)).await?;
    for ours in shares.iter_mut().filter(|it| it.is_latest) {
        (ours.outcome, ours.cause) = (Some(outcome), cause);
    }
    let outcomes: Vec<Option<Outcome>> = shares.iter().map(|it| it.outcome).collect();
    if let Some(mark) = decide::whole(&outcomes) {
        if mark == Mark::Parked {
            give_up(tx, claim, &shares).await?;
        }
        marks::end(tx, ProcessorName::Alerts, &[(claim.company, claim.event, mark)]).await?;
    }
    Ok((result, next))
}

async fn give_up(tx: &Transaction<'_>, claim: &Claim, shares: &[Share]) -> Result<(), Failure> {
    let failed: Vec<(&Share, Class)> = shares.iter().filter_map(|it| Some((it, it.cause?))).collect();
    let said = failed.iter().map(|(share, class)| {
        let (whose, class) = (share.endpoint.as_str(), class.as_str());
        format!("the {whose}'s webhook was not taken in {} attempts, lastly {class}", share.of_round)
    });
    let cause = Cause {
        class: failed.first().map_or("unknown", |(_, class)| class.as_str()),
        detail: said.collect::<Vec<_>>().join("; "),
        attempts: failed.iter().map(|(share, _)| share.of_round).sum(),
    };
    if let Some(record) = store::record(tx, claim.company, claim.event).await? {
        park::park(tx, ProcessorName::Alerts, &store::parcel(claim, &record), &cause).await?;
    }
    Ok(())
}

fn count(claim: &Claim, next: Next, verdict: &Verdict) {
    let outcome = match next {
        Next::Again(_) => "retried",
        Next::End(Outcome::Delivered) => "delivered",
        Next::End(Outcome::FailedPermanent) => "failed",
        Next::End(Outcome::Withdrawn) => "withdrawn",
    };
    counter!(metric::ALERT_WEBHOOKS, "endpoint" => claim.endpoint.as_str(), "outcome" => outcome).increment(1);
    if let Some(class) = verdict.class() {
        counter!(metric::ALERT_WEBHOOK_ERRORS, "class" => class.as_str()).increment(1);
    }
}
