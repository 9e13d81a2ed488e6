//! Effects on rows, inside one transaction: the end of an attempt, and with the last one of an event the event.

use domain::EventOutcome;
use metrics::counter;
use platform::attempt::{self, Next, Outcome, Repeat, Verdict};
use platform::dead_letter::{self, Cause};
use platform::postgres::{Failure, Transaction};
use platform::queue::{Ending, Performed, Schedule};
use platform::{metric, outcomes};

use super::PROCESSOR;
use super::decide::{self, Answer};
use super::store::{self, Share, WebhookCall};

/// A call and what it came to.
pub(super) type Attempt<'a> = Performed<'a, WebhookCall, Answer>;

pub(super) async fn end(tx: &Transaction<'_>, ended: &Attempt<'_>, schedule: &Schedule) -> Result<Ending, Failure> {
    let (call, verdict) = (ended.job, &ended.output.verdict);
    let mut shares = store::hold(tx, call).await?;
    // Receivers are told to expect an event more than once.
    let (result, next) = attempt::after(call.of_round, verdict, Repeat::Freely, schedule, ended.claimed.chance());
    store::end_attempt(tx, call, result, ended.output).await?;
    let outcome = match next {
        Next::Retry(wait) => {
            store::move_on(tx, call, None, None).await?;
            return Ok(Ending::Retry(wait));
        }
        Next::End(outcome) => outcome,
    };
    let cause = verdict.class().filter(|_| outcome == Outcome::FailedPermanent);
    store::move_on(tx, call, Some(outcome), cause).await?;
    for ours in shares.iter_mut().filter(|it| it.endpoint == call.endpoint) {
        (ours.outcome, ours.cause) = (Some(outcome), cause.map(str::to_owned));
    }
    let outcomes: Vec<Option<Outcome>> = shares.iter().map(|it| it.outcome).collect();
    if let Some(outcome) = decide::whole(&outcomes) {
        if outcome == EventOutcome::DeadLettered {
            give_up(tx, call, &shares).await?;
        }
        outcomes::record(tx, PROCESSOR.name, &[(call.company, call.event, outcome)]).await?;
    }
    Ok(Ending::Done)
}

async fn give_up(tx: &Transaction<'_>, call: &WebhookCall, shares: &[Share]) -> Result<(), Failure> {
    let failed: Vec<(&Share, &String)> = shares.iter().filter_map(|it| Some((it, it.cause.as_ref()?))).collect();
    let said = failed.iter().map(|(share, class)| {
        let whose = share.endpoint.as_str();
        format!("the {whose}'s webhook was not taken in {} attempts, lastly {class}", share.of_round)
    });
    let cause = Cause {
        class: failed.first().map_or("unknown".into(), |(_, class)| (*class).clone().into()),
        detail: said.collect::<Vec<_>>().join("; "),
        attempts: failed.iter().map(|(share, _)| share.of_round).sum(),
    };
    Ok(dead_letter::add_recorded(tx, PROCESSOR.name, store::RECORDS, (call.company, call.event), &cause).await?)
}

/// Counts an attempt whose end is committed.
pub(super) fn count(ended: &Attempt<'_>, ending: &Ending) {
    let outcome = match (ending, ended.output.verdict) {
        (Ending::Retry(_) | Ending::HeldBack(_), _) => "retried",
        (_, Verdict::Done) => "delivered",
        (_, Verdict::Withdrawn) => "withdrawn",
        _ => "failed",
    };
    counter!(metric::ALERT_WEBHOOKS, "endpoint" => ended.job.endpoint.as_str(), "outcome" => outcome).increment(1);
    if let Some(class) = ended.output.verdict.class() {
        counter!(metric::ALERT_WEBHOOK_ERRORS, "class" => class).increment(1);
    }
}
