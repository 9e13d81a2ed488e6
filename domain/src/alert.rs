//! What a company should know, as the quota functions say it on `alerts` (`sql/functions/40_counters/alerts.sql`).
//!
//! The envelope's kind says which it is; here is what is known about it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Something a company should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Alert {
    /// Usage has passed a part of its limit.
    Threshold(Threshold),
    /// A subscription took a step.
    Step(Step),
}

/// A part of a limit that was passed: once per period and limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// What is counted, by its name in the catalogue.
    pub feature: String,
    /// Which part, in per cent.
    pub threshold: i16,
    /// The limit, in the feature's smallest unit.
    pub limit: i64,
    /// What was used just after, in the same unit.
    pub used: i64,
    /// Raised whenever thresholds may be passed again: by a new period and by another limit. `arming` before 0.3.0.
    #[serde(alias = "arming")]
    pub threshold_epoch: i64,
    /// When the period began; none if it has no beginning.
    #[serde(with = "some_micros")]
    pub period_start: Option<Timestamp>,
    /// When the period ends; none if it never does.
    #[serde(with = "some_micros")]
    pub period_end: Option<Timestamp>,
}

/// A step in the life of a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub subscription_id: Uuid,
    /// The row that recorded it, in `subscription_events`.
    pub subscription_event_id: Uuid,
    /// What the step is about: plan versions, statuses, instants.
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

    const CROSSED: &str = r#"{"used": 8, "limit": 10, "arming": 1, "feature": "agents", "threshold": 80,
        "period_end": null, "period_start": 1760000000000000}"#;

    #[test]
    fn a_threshold_and_a_step_are_told_apart_by_what_they_hold() {
        let Alert::Threshold(crossed) = serde_json::from_str(CROSSED).unwrap() else { panic!("a threshold") };
        assert_eq!((crossed.threshold, crossed.used, crossed.limit, crossed.period_end), (80, 8, 10, None));
        assert_eq!(crossed.period_start.unwrap().as_second(), 1_760_000_000);
        let id = Uuid::nil();
        let step = format!(
            r#"{{"to": "past_due", "from": "active", "subscription_id": "{id}", "subscription_event_id": "{id}"}}"#
        );
        let Alert::Step(step) = serde_json::from_str(&step).unwrap() else { panic!("a step") };
        assert_eq!(step.detail.keys().collect::<Vec<_>>(), ["from", "to"]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for wrong in ["{}", "[]", r#"{"feature": "agents", "threshold": 80}"#, r#"{"subscription_id": 7}"#] {
            assert!(serde_json::from_str::<Alert>(wrong).is_err(), "{wrong}");
        }
    }
}
