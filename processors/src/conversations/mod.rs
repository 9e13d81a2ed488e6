//! conversations — who writes to a company, and what is said, each message at its place in its conversation.
//!
//! reads    `deliveries`, where contacts are divided
//! writes   records for `outbound.messages`, which the caller adds to the outbox; where contacts are divided, `turns`
//! owns     tables `contacts`, `contact_aliases`, `conversations`, `messages`
//! repeats  safe: a message is stored once under its id, and the whole of it is the caller's transaction
//!
//! Not a processor: without a queue and without topics of its own, it works inside the transactions of those that have
//! them. Aliases are locked first, then conversations in the order of their ids; a caller locks its own rows after them.

pub mod division;
mod contacts;
mod messages;
mod outbound;
#[cfg(test)]
mod tests;

pub(crate) use messages::{Placed, receive, store};
pub(crate) use outbound::{NewMessage, send};
