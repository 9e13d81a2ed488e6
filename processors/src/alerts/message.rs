//! What a receiver is told: the body of a webhook, as `docs/WEBHOOKS.md` explains it. Pure.

use domain::{Alert, Envelope, Kind};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What a kind of event is called towards receivers.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::UsageThreshold => "usage.threshold_reached",
        Kind::SubscriptionCreated => "subscription.created",
        Kind::SubscriptionPlanChangeScheduled => "subscription.plan_change_scheduled",
        Kind::SubscriptionPlanChanged => "subscription.plan_changed",
        Kind::SubscriptionCancelScheduled => "subscription.cancel_scheduled",
        Kind::SubscriptionCanceled => "subscription.canceled",
        Kind::SubscriptionResumed => "subscription.resumed",
        Kind::SubscriptionStatusChanged => "subscription.status_changed",
        // The consumer lets no other in.
        Kind::InboundMessage
        | Kind::OutboundMessage
        | Kind::Usage
        | Kind::TurnEnded
        | Kind::DeliveryEnded
        | Kind::DeadLetter => kind.as_str(),
    }
}

/// The body about an event of the company of that domain; the same event has the same bytes.
pub(super) fn body(envelope: &Envelope<Alert>, domain: &str) -> String {
    let mut data = details(&envelope.payload);
    data.insert("company_id".to_owned(), json!(envelope.company_id.0));
    data.insert("company".to_owned(), json!(domain));
    let name = name(envelope.kind);
    json!({ "type": name, "timestamp": envelope.occurred_at.to_string(), "data": data }).to_string()
}

fn details(alert: &Alert) -> Map<String, Value> {
    match alert {
        Alert::Threshold(crossed) => {
            let instant = |at: Option<Timestamp>| at.map(|it| it.to_string());
            Map::from_iter([
                ("feature".to_owned(), json!(crossed.feature)),
                ("threshold_percent".to_owned(), json!(crossed.threshold)),
                ("limit".to_owned(), json!(crossed.limit)),
                ("used".to_owned(), json!(crossed.used)),
                ("threshold_epoch".to_owned(), json!(crossed.threshold_epoch)),
                // Its name before 0.3.0, for one version.
                ("arming".to_owned(), json!(crossed.threshold_epoch)),
                ("period_start".to_owned(), json!(instant(crossed.period_start))),
                ("period_end".to_owned(), json!(instant(crossed.period_end))),
            ])
        }
        Alert::Step(step) => {
            let mut details = step.detail.clone();
            details.insert("subscription_id".to_owned(), json!(step.subscription_id.to_string()));
            details.insert("subscription_event_id".to_owned(), json!(step.subscription_event_id.to_string()));
            details
        }
    }
}
