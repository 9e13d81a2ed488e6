//! How the handling of one event ended. An outcome is also the proof that the event was seen: a second one is a repeat.
//!
//! Conservation: accepted = done + ignored + dead-lettered + in flight, per company and processor.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The four states of an event at a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// Taken in; its work is a row somewhere.
    InFlight,
    /// Its work is done.
    Done,
    /// Nothing was to be done, for a reason.
    Ignored(IgnoreReason),
    /// On the dead-letter dead_letters, waiting for a person.
    DeadLettered,
}

impl EventOutcome {
    /// The state's name in the table.
    pub fn state(self) -> &'static str {
        match self {
            EventOutcome::InFlight => "in_flight",
            EventOutcome::Done => "done",
            EventOutcome::Ignored(_) => "ignored",
            EventOutcome::DeadLettered => "dead_lettered",
        }
    }

    /// The reason, where there is one.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            EventOutcome::Ignored(reason) => Some(reason.as_str()),
            EventOutcome::InFlight | EventOutcome::Done | EventOutcome::DeadLettered => None,
        }
    }
}

/// Why an event that was understood is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IgnoreReason {
    /// Written in a group.
    Group,
    /// A status or a broadcast list.
    Broadcast,
    Newsletter,
    /// Our own message coming back, or a person of the company writing by hand.
    OwnEcho,
    /// A change to an earlier message.
    Edited,
    /// An earlier message was taken back.
    Revoked,
    /// An empty shell: the provider could not decrypt or deliver the content.
    Stub,
    /// An emoji on an earlier message.
    Reaction,
    /// Of a kind that we do not read: a poll, an order, whatever WhatsApp adds next.
    UnsupportedKind,
    /// Its signature was first seen on another event: a webhook sent again under another idempotency key.
    Duplicate,
    /// The company is not served.
    CompanyInactive,
    /// Taken already, under the id that releases before 0.2.0 gave it.
    Repeated,
    /// Neither the company nor the operator wants to be told.
    NoWebhook,
}

impl IgnoreReason {
    /// The reason's name in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            IgnoreReason::Group => "group",
            IgnoreReason::Broadcast => "broadcast",
            IgnoreReason::Newsletter => "newsletter",
            IgnoreReason::OwnEcho => "own_echo",
            IgnoreReason::Edited => "edited",
            IgnoreReason::Revoked => "revoked",
            IgnoreReason::Stub => "stub",
            IgnoreReason::Reaction => "reaction",
            IgnoreReason::UnsupportedKind => "unsupported_kind",
            IgnoreReason::Duplicate => "duplicate",
            IgnoreReason::CompanyInactive => "company_inactive",
            IgnoreReason::Repeated => "repeated",
            IgnoreReason::NoWebhook => "no_webhook",
        }
    }
}

impl fmt::Display for IgnoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A processor, by the name used in tables, metrics, groups and `--only`. Which there are is one list, in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessorName(&'static str);

impl ProcessorName {
    /// The processor of that name: lowercase letters and underscores.
    pub const fn named(name: &'static str) -> Self {
        ProcessorName(name)
    }

    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ProcessorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
