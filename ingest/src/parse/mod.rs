//! Bytes of a verified hook to the message they mean, or precisely why not. Pure: no clock, no I/O, no company.
//!
//! Lenient in what does not matter — unknown fields, numbers sent as text, text sent as numbers — and strict about
//! who wrote and whether we know how to read it. No bytes make it panic.

mod content;
mod json;
mod part;
mod repair;
mod sender;
mod text;
mod unsupported;
mod whaticket;

#[cfg(test)]
mod tests;

use domain::InboundMessage;
use jiff::Timestamp;

pub use unsupported::UnsupportedKind;
pub use whaticket::whaticket;

/// A message and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What was said, by whom.
    pub message: InboundMessage,
    /// When the provider says it was written; when we received it, if the provider says nothing sensible.
    pub occurred_at: Timestamp,
    /// What kind it is of, if that is why it is ignored.
    pub unsupported: Option<UnsupportedKind>,
}
