//! The topics: their names, what keys them, who writes and who reads.

use std::fmt;

/// A topic of the river.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// What contacts wrote. Written by ingest, read by reply.
    InboundMessages,
    /// What we want said. Written by the outbox relay, read by delivery.
    OutboundMessages,
    /// What was used. Written by the outbox relay, read by metering.
    UsageEvents,
    /// What a company should know: a threshold crossed, a plan changed. Written by the outbox relay, read by alerts.
    Alerts,
    /// How work ended: turns, deliveries. Written by the outbox relay, read by the archive.
    ActivityEvents,
    /// What could not be handled, for watchers; the dead_letters itself is rows. Written by the outbox relay.
    DeadLetters,
}

/// What follows the company in a record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScheme {
    Address,
    Conversation,
    Company,
    /// The key the record had where it came from.
    Origin,
}

impl Topic {
    /// Every topic, in river order.
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

    /// What keys its records.
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
