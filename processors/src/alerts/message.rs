//! The body of a webhook, as `docs/WEBHOOKS.md` explains it. Pure.

use domain::{Alert, Envelope, Kind};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The `type` of a webhook about this kind of event.
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
        // The consumer reads no other kind.
        Kind::InboundMessage
        | Kind::OutboundMessage
        | Kind::Usage
        | Kind::TurnEnded
        | Kind::DeliveryEnded
        | Kind::DeadLetter => kind.as_str(),
    }
}

/// The body about an event of the company with that domain; the same event always has the same bytes.
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
        Alert::SubscriptionChange(change) => {
            let mut details = change.detail.clone();
            details.insert("subscription_id".to_owned(), json!(change.subscription_id.to_string()));
            details.insert("subscription_event_id".to_owned(), json!(change.subscription_event_id.to_string()));
            details
        }
    }
}
