//! How a fact is written on a topic: JSON with an integer schema, instants as UTC microseconds.
//!
//! The headers repeat what is needed to route, count and trace, so that no reader parses a payload for that.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{CompanyId, EventId};

/// The schema this build writes and reads. A record with another one is dead-lettered.
pub const SCHEMA: u32 = 1;

/// The names of the Kafka record headers.
pub mod header {
    /// The company's id, decimal.
    pub const COMPANY: &str = "company";
    pub const EVENT_ID: &str = "event_id";
    /// A [`Kind`](super::Kind).
    pub const KIND: &str = "kind";
    /// The payload's schema, decimal.
    pub const SCHEMA: &str = "schema";
    /// The company's placement epoch, decimal: raised when its number of partitions changes.
    pub const EPOCH: &str = "epoch";
    /// When it happened, UTC microseconds.
    pub const OCCURRED_AT: &str = "occurred_at";
    /// When we received it, UTC microseconds.
    pub const RECEIVED_AT: &str = "received_at";
    pub const TRACEPARENT: &str = "traceparent";
    /// The verified MAC of the signed request that the record came from, hexadecimal; absent on other records.
    pub const MAC: &str = "mac";
    /// How many times it was tried, on dead-lettered and replayed records.
    pub const ATTEMPT: &str = "attempt";
    /// `topic/partition/offset` of the first record, on dead-lettered and replayed records.
    pub const ORIGIN: &str = "origin";
    /// Why it was dead-lettered.
    pub const CAUSE: &str = "cause";
}

/// What sort of fact an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    InboundMessage,
    OutboundMessage,
    Usage,
    /// An [`crate::Alert`]: usage has passed a threshold.
    UsageThreshold,
    /// An [`crate::Alert`]: a subscription began.
    SubscriptionCreated,
    /// An [`crate::Alert`]: the plan will change at the end of the term.
    SubscriptionPlanChangeScheduled,
    /// An [`crate::Alert`]: the plan has changed.
    SubscriptionPlanChanged,
    /// An [`crate::Alert`]: the subscription will end with its period.
    SubscriptionCancelScheduled,
    /// An [`crate::Alert`]: the subscription is over.
    SubscriptionCanceled,
    /// An [`crate::Alert`]: a scheduled cancellation was withdrawn.
    SubscriptionResumed,
    /// An [`crate::Alert`]: the subscription's status has changed.
    SubscriptionStatusChanged,
    TurnEnded,
    DeliveryEnded,
    /// Any record that was dead-lettered; its payload is the original bytes.
    DeadLetter,
}

impl Kind {
    pub const ALERTS: &[Kind] = &[
        Kind::UsageThreshold,
        Kind::SubscriptionCreated,
        Kind::SubscriptionPlanChangeScheduled,
        Kind::SubscriptionPlanChanged,
        Kind::SubscriptionCancelScheduled,
        Kind::SubscriptionCanceled,
        Kind::SubscriptionResumed,
        Kind::SubscriptionStatusChanged,
    ];

    /// Every kind that topics of events hold: all but the announcements of dead letters, which repeat other records.
    pub const EVENTS: &[Kind] = &[
        Kind::InboundMessage,
        Kind::OutboundMessage,
        Kind::Usage,
        Kind::UsageThreshold,
        Kind::SubscriptionCreated,
        Kind::SubscriptionPlanChangeScheduled,
        Kind::SubscriptionPlanChanged,
        Kind::SubscriptionCancelScheduled,
        Kind::SubscriptionCanceled,
        Kind::SubscriptionResumed,
        Kind::SubscriptionStatusChanged,
        Kind::TurnEnded,
        Kind::DeliveryEnded,
    ];

    pub const ACTIVITY: &[Kind] = &[Kind::TurnEnded, Kind::DeliveryEnded];

    /// The name in headers and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::InboundMessage => "inbound_message",
            Kind::OutboundMessage => "outbound_message",
            Kind::Usage => "usage",
            Kind::UsageThreshold => "usage_threshold",
            Kind::SubscriptionCreated => "subscription_created",
            Kind::SubscriptionPlanChangeScheduled => "subscription_plan_change_scheduled",
            Kind::SubscriptionPlanChanged => "subscription_plan_changed",
            Kind::SubscriptionCancelScheduled => "subscription_cancel_scheduled",
            Kind::SubscriptionCanceled => "subscription_canceled",
            Kind::SubscriptionResumed => "subscription_resumed",
            Kind::SubscriptionStatusChanged => "subscription_status_changed",
            Kind::TurnEnded => "turn_ended",
            Kind::DeliveryEnded => "delivery_ended",
            Kind::DeadLetter => "dead_letter",
        }
    }
}

/// A fact, with what every reader needs to know about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    pub schema: u32,
    pub event_id: EventId,
    pub company_id: CompanyId,
    pub kind: Kind,
    #[serde(with = "micros")]
    pub occurred_at: Timestamp,
    /// When we received it.
    #[serde(with = "micros")]
    pub received_at: Timestamp,
    pub payload: T,
}

/// Why a record cannot be read; each such record is dead-lettered.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The bytes are not an envelope of ours.
    #[error("record does not decode")]
    Undecodable(#[source] serde_json::Error),
    /// An envelope of another version.
    #[error("unknown schema {schema}, this build reads {SCHEMA}")]
    UnknownSchema { schema: u32 },
    /// A known kind on the wrong topic.
    #[error("kind {found} where {expected} belongs", found = found.as_str(), expected = names(expected))]
    WrongKind {
        found: Kind,
        /// The kinds that the topic holds.
        expected: &'static [Kind],
    },
    /// The record's payload is absent or has no bytes.
    #[error("record has no payload")]
    Empty,
}

impl Unreadable {
    /// One of a fixed set of names, for metrics, rows and filters.
    pub fn class(&self) -> &'static str {
        match self {
            Unreadable::Undecodable(_) => "undecodable",
            Unreadable::UnknownSchema { .. } => "unknown_schema",
            Unreadable::WrongKind { .. } => "wrong_kind",
            Unreadable::Empty => "empty",
        }
    }
}

fn names(kinds: &[Kind]) -> String {
    kinds.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(" or ")
}

impl<T: DeserializeOwned> Envelope<T> {
    /// Reads a record's payload.
    ///
    /// # Errors
    /// Why the record cannot be handled; the schema is checked before the rest is parsed.
    pub fn read(bytes: &[u8], expected: &'static [Kind]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        if bytes.is_empty() {
            return Err(Unreadable::Empty);
        }
        let Version { schema } = serde_json::from_slice(bytes).map_err(Unreadable::Undecodable)?;
        if schema != SCHEMA {
            return Err(Unreadable::UnknownSchema { schema });
        }
        let envelope: Envelope<T> = serde_json::from_slice(bytes).map_err(Unreadable::Undecodable)?;
        if !expected.contains(&envelope.kind) {
            return Err(Unreadable::WrongKind { found: envelope.kind, expected });
        }
        Ok(envelope)
    }
}

impl<T: Serialize> Envelope<T> {
    /// The record's payload.
    ///
    /// # Errors
    /// Only if `T` has a map with keys that are not strings; none of ours has.
    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

mod micros {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i64(at.as_microsecond())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Timestamp::from_microsecond(i64::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Envelope<crate::UsageEvent>, Unreadable> {
        Envelope::read(json.as_bytes(), &[Kind::Usage])
    }

    const GOOD: &str = r#"{"schema":1,"event_id":"00000000-0000-0000-0000-000000000001","company_id":7,"kind":"usage",
        "occurred_at":1760000000000000,"received_at":1760000000000001,"payload":{"fact":"message_in"}}"#;

    #[test]
    fn what_is_written_can_be_read() {
        let envelope = read(GOOD).unwrap();
        assert_eq!(envelope.company_id, CompanyId(7));
        assert_eq!(read(std::str::from_utf8(&envelope.write().unwrap()).unwrap()).unwrap(), envelope);
    }

    #[test]
    fn an_unknown_schema_is_reported_even_when_nothing_else_can_be_read() {
        assert!(matches!(read(r#"{"schema":9,"new":true}"#), Err(Unreadable::UnknownSchema { schema: 9 })));
    }

    #[test]
    fn undecodable_empty_and_misplaced_records_have_different_classes() {
        let class = |json: &str| read(json).unwrap_err().class();
        assert_eq!(class("\u{0}not json"), "undecodable");
        assert_eq!(class(""), "empty");
        assert_eq!(class(&GOOD.replace("\"usage\"", "\"dead_letter\"")), "wrong_kind");
    }
}
