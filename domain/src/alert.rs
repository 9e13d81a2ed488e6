//! What a company is notified of, as the quota functions write it to `alerts` (`sql/functions/40_counters/alerts.sql`).
//!
//! The envelope's kind says which event it is; these are the payloads.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Something a company is notified of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Alert {
    /// Usage has passed a part of its limit.
    Threshold(Threshold),
    /// A subscription changed.
    SubscriptionChange(SubscriptionChange),
}

/// A part of a limit that was passed: once per period and limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// What is counted, by its name in the catalogue.
    pub feature: String,
    /// The part that was passed, in per cent.
    pub threshold: i16,
    /// The limit, in the feature's smallest unit.
    pub limit: i64,
    /// What was used after the fact that passed it, in the same unit.
    pub used: i64,
    /// Raised whenever thresholds may be passed again: by a new period and by another limit. `arming` before 0.3.0.
    #[serde(alias = "arming")]
    pub threshold_epoch: i64,
    /// When the period began; `None` if it has no beginning.
    #[serde(with = "some_micros")]
    pub period_start: Option<Timestamp>,
    /// When the period ends; `None` if it never does.
    #[serde(with = "some_micros")]
    pub period_end: Option<Timestamp>,
}

/// A change of a subscription: created, another plan, another status, a scheduled change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionChange {
    pub subscription_id: Uuid,
    /// The row that recorded it, in `subscription_events`.
    pub subscription_event_id: Uuid,
    /// What changed: plan versions, statuses, instants.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

/// UTC microseconds, or null.
mod some_micros {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(at: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error> {
        at.map(Timestamp::as_microsecond).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let micros = Option::<i64>::deserialize(from)?;
        micros.map(Timestamp::from_microsecond).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROSSED: &str = r#"{"used": 8, "limit": 10, "threshold_epoch": 1, "feature": "agents", "threshold": 80,
        "period_end": null, "period_start": 1760000000000000}"#;

    #[test]
    fn a_threshold_and_a_subscription_change_are_distinguished_by_their_fields() {
        let Alert::Threshold(crossed) = serde_json::from_str(CROSSED).unwrap() else { panic!("a threshold") };
        assert_eq!((crossed.threshold, crossed.used, crossed.limit, crossed.period_end), (80, 8, 10, None));
        assert_eq!(crossed.period_start.unwrap().as_second(), 1_760_000_000);
        let former = CROSSED.replace("threshold_epoch", "arming");
        assert_eq!(serde_json::from_str::<Alert>(&former).unwrap(), Alert::Threshold(crossed), "its name before 0.3.0");
        let id = Uuid::nil();
        let change = format!(
            r#"{{"to": "past_due", "from": "active", "subscription_id": "{id}", "subscription_event_id": "{id}"}}"#
        );
        let Alert::SubscriptionChange(change) = serde_json::from_str(&change).unwrap() else { panic!("a change") };
        assert_eq!(change.detail.keys().collect::<Vec<_>>(), ["from", "to"]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for wrong in ["{}", "[]", r#"{"feature": "agents", "threshold": 80}"#, r#"{"subscription_id": 7}"#] {
            assert!(serde_json::from_str::<Alert>(wrong).is_err(), "{wrong}");
        }
    }
}
