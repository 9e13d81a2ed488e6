//! The topics: their names, their keys, what writes and what reads them.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// What contacts wrote. Written by ingest, read by reply.
    InboundMessages,
    /// Messages to be sent. Written by the outbox relay, read by delivery.
    OutboundMessages,
    /// What was used. Written by the outbox relay, read by metering.
    UsageEvents,
    /// What a company is notified of: a threshold crossed, a plan changed. Written by the outbox relay, read by alerts.
    Alerts,
    /// How work ended: turns, deliveries. Written by the outbox relay, read by archive.
    ActivityEvents,
    /// Announcements of events that could not be handled; the dead letters themselves are rows. Written by the outbox
    /// relay.
    DeadLetters,
}

/// What follows the company in a record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScheme {
    Address,
    Conversation,
    Company,
    /// The key of the record on the topic it came from.
    Origin,
}

impl Topic {
    /// Every topic, in the order in which an event passes them.
    pub const ALL: [Topic; 6] = [
        Topic::InboundMessages,
        Topic::OutboundMessages,
        Topic::UsageEvents,
        Topic::Alerts,
        Topic::ActivityEvents,
        Topic::DeadLetters,
    ];

    /// The name on the broker.
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::InboundMessages => "inbound.messages",
            Topic::OutboundMessages => "outbound.messages",
            Topic::UsageEvents => "usage.events",
            Topic::Alerts => "alerts",
            Topic::ActivityEvents => "activity.events",
            Topic::DeadLetters => "dead.letters",
        }
    }

    /// The topic of that name.
    pub fn named(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.as_str() == name)
    }

    /// What follows the company in the keys of its records.
    pub fn key_scheme(self) -> KeyScheme {
        match self {
            Topic::InboundMessages => KeyScheme::Address,
            Topic::OutboundMessages => KeyScheme::Conversation,
            Topic::UsageEvents | Topic::Alerts | Topic::ActivityEvents => KeyScheme::Company,
            Topic::DeadLetters => KeyScheme::Origin,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
