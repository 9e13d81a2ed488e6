//! conversations — a company's contacts, their conversations, and the messages of both sides, each at its position.
//!
//! reads    `deliveries`, where contacts are divided
//! writes   records for `outbound.messages`, which the caller adds to the outbox; where contacts are divided, `turns`
//! owns     tables `contacts`, `contact_aliases`, `conversations`, `messages`
//! repeats  safe: a message is stored once under its id, and everything happens in the caller's transaction
//!
//! Not a processor: it has no queue and no topic, and works inside the transactions of the processors. Aliases are
//! locked first, then conversations in the order of their ids; a caller locks its own rows after them.

pub mod division;
mod contacts;
mod messages;
mod outbound;
#[cfg(test)]
mod tests;

pub(crate) use messages::{PositionedMessage, receive, store};
pub(crate) use outbound::{NewMessage, send};
