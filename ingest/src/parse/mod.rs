//! Turns the body of a verified webhook into a message, or into the reason why that fails. Pure: no clock, no I/O, no
//! company.
//!
//! Lenient in what does not matter — unknown fields, numbers sent as text, text sent as numbers — and strict about
//! the sender and the structure of the content. No bytes make it panic.

mod content;
mod hook;
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
    pub message: InboundMessage,
    /// The provider's timestamp; when we received it, if there is none or it is implausible.
    pub occurred_at: Timestamp,
    /// Its kind of content, if it is ignored for that.
    pub unsupported: Option<UnsupportedKind>,
}
