//! How the handling of one event ended. An outcome also proves that the event was handled before: the same event again
//! is a duplicate.
//!
//! Conservation: accepted = done + ignored + dead-lettered + in flight, per company and processor.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The four states of an event at a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// Admitted; its work is a row of the processor's own tables.
    InFlight,
    /// Its work is done.
    Done,
    /// There was nothing to do, for a reason.
    Ignored(IgnoreReason),
    /// In `dead_letters`, waiting for an operator.
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

/// Why an event that could be read needs no work.
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
    /// A message without content: the provider could not decrypt or deliver it.
    Stub,
    /// An emoji on an earlier message.
    Reaction,
    /// Of a kind that we do not read: a poll, an order, or one that WhatsApp adds later.
    UnsupportedKind,
    /// Its signature was first seen on another event: a webhook sent again under another idempotency key.
    Duplicate,
    /// The company is not served.
    CompanyInactive,
    /// Handled already, under the id that releases before 0.2.0 gave it.
    Repeated,
    /// Neither the company nor the operator has a webhook.
    NoWebhook,
    /// It cannot be read, by a processor that only counts; another one dead-letters it.
    Unreadable,
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
            IgnoreReason::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for IgnoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A processor, by the name used in tables, metrics, consumer groups and `--only`. The list of them is in the binary.
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
