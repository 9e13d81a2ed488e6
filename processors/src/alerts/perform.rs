//! Effects on rows, inside one transaction: the end of an attempt, and with the last one of an event the event.

use domain::Mark;
use metrics::counter;
use platform::park::{self, Cause};
use platform::postgres::{Failure, Transaction};
use platform::queue::{Ending, Schedule};
use platform::{marks, metric};

use super::PROCESSOR;
use super::decide::{self, Next, Outcome};
use super::store::{self, Share, WebhookCall};
use super::verdict::{Class, Verdict};

/// Ends an attempt; `chance` is for the jitter of the next one.
pub(super) async fn end(
    tx: &Transaction<'_>,
    call: &WebhookCall,
    verdict: &Verdict,
    schedule: &Schedule,
    chance: f64,
) -> Result<Ending, Failure> {
    let mut shares = store::hold(tx, call).await?;
    let attempts = usize::try_from(call.of_round).unwrap_or(usize::MAX);
    let (result, next) = decide::after(attempts, verdict, schedule, chance);
    store::end_attempt(tx, call, result.as_str(), verdict.status(), verdict.class()).await?;
    let outcome = match next {
        Next::Again(wait) => {
            store::move_on(tx, call, None, None).await?;
            return Ok(Ending::Retry(wait));
        }
        Next::End(outcome) => outcome,
    };
    let cause = verdict.class().filter(|_| outcome == Outcome::FailedPermanent);
    store::move_on(tx, call, Some(outcome), cause).await?;
    for ours in shares.iter_mut().filter(|it| it.endpoint == call.endpoint) {
        (ours.outcome, ours.cause) = (Some(outcome), cause);
    }
    let outcomes: Vec<Option<Outcome>> = shares.iter().map(|it| it.outcome).collect();
    if let Some(mark) = decide::whole(&outcomes) {
        if mark == Mark::Parked {
            give_up(tx, call, &shares).await?;
        }
        marks::end(tx, PROCESSOR.name, &[(call.company, call.event, mark)]).await?;
    }
    Ok(Ending::Done)
}

async fn give_up(tx: &Transaction<'_>, call: &WebhookCall, shares: &[Share]) -> Result<(), Failure> {
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
    if let Some(record) = store::record(tx, call.company, call.event).await? {
        park::park(tx, PROCESSOR.name, &store::parcel(call, &record), &cause).await?;
    }
    Ok(())
}

/// Counts an attempt whose end is committed.
pub(super) fn count(call: &WebhookCall, verdict: &Verdict, ending: &Ending) {
    let outcome = match (ending, verdict) {
        (Ending::Retry(_) | Ending::HeldBack(_), _) => "retried",
        (_, Verdict::Delivered { .. }) => "delivered",
        (_, Verdict::Withdrawn) => "withdrawn",
        (_, Verdict::Again { .. } | Verdict::Never { .. }) => "failed",
    };
    counter!(metric::ALERT_WEBHOOKS, "endpoint" => call.endpoint.as_str(), "outcome" => outcome).increment(1);
    if let Some(class) = verdict.class() {
        counter!(metric::ALERT_WEBHOOK_ERRORS, "class" => class.as_str()).increment(1);
    }
}
