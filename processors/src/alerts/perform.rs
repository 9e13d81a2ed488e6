//! Effects on rows, inside one transaction: the end of an attempt, and the end of its event with the last one.

use domain::EventOutcome;
use metrics::counter;
use platform::attempt::{self, Next, Outcome, Repeat, Verdict};
use platform::dead_letter::{self, Cause};
use platform::postgres::{Failure, Transaction};
use platform::queue::{Ending, Performed, Schedule};
use platform::{metric, outcomes};

use super::PROCESSOR;
use super::decide::{self, ReceiverResponse};
use super::store::{self, WebhookCall, WebhookDelivery};

/// A call with its response.
pub(super) type Attempt<'a> = Performed<'a, WebhookCall, ReceiverResponse>;

pub(super) async fn end(tx: &Transaction<'_>, ended: &Attempt<'_>, schedule: &Schedule) -> Result<Ending, Failure> {
    let (call, verdict) = (ended.job, &ended.output.verdict);
    let mut deliveries = store::lock_deliveries(tx, call).await?;
    // Receivers have to expect an event more than once, so an uncertain call is repeated like any other.
    let (result, next) =
        attempt::after(call.of_round, verdict, Repeat::Freely, schedule, ended.claimed.jitter_factor());
    store::end_attempt(tx, call, result, ended.output).await?;
    let outcome = match next {
        Next::Retry(wait) => {
            store::set_outcome(tx, call, None, None).await?;
            return Ok(Ending::Retry(wait));
        }
        Next::End(outcome) => outcome,
    };
    let cause = verdict.class().filter(|_| outcome == Outcome::FailedPermanent);
    store::set_outcome(tx, call, Some(outcome), cause).await?;
    for delivery in deliveries.iter_mut().filter(|it| it.endpoint == call.endpoint) {
        (delivery.outcome, delivery.cause) = (Some(outcome), cause.map(str::to_owned));
    }
    let outcomes: Vec<Option<Outcome>> = deliveries.iter().map(|it| it.outcome).collect();
    if let Some(outcome) = decide::event_outcome(&outcomes) {
        if outcome == EventOutcome::DeadLettered {
            add_dead_letter(tx, call, &deliveries).await?;
        }
        outcomes::record(tx, PROCESSOR.name, &[(call.company, call.event, outcome)]).await?;
    }
    Ok(Ending::Done)
}

async fn add_dead_letter(
    tx: &Transaction<'_>,
    call: &WebhookCall,
    deliveries: &[WebhookDelivery],
) -> Result<(), Failure> {
    let failed: Vec<(&WebhookDelivery, &String)> =
        deliveries.iter().filter_map(|it| Some((it, it.cause.as_ref()?))).collect();
    let details = failed.iter().map(|(delivery, class)| {
        let endpoint = delivery.endpoint.as_str();
        format!("the {endpoint}'s webhook was not taken in {} attempts, lastly {class}", delivery.of_round)
    });
    let cause = Cause {
        class: failed.first().map_or("unknown".into(), |(_, class)| (*class).clone().into()),
        detail: details.collect::<Vec<_>>().join("; "),
        attempts: failed.iter().map(|(delivery, _)| delivery.of_round).sum(),
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
