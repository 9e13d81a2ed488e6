//! The processors: they read topics and make effects. Each is a folder with the same files; the list is in the binary,
//! `src/processors.rs`.
//!
//! `mod.rs` is the contract, `decide.rs` is pure, `perform.rs` runs effects inside one transaction, `store.rs` is the
//! folder's SQL (each table has one writing module), `work.rs` makes the slow calls between transactions.
//!
//! Beside them is what several of them need: [`conversations`], with the messages of both sides, and `ledger`.

pub mod reply;
pub mod delivery;
pub mod metering;
pub mod alerts;
pub mod dead_letters;
pub mod conversations;
mod ledger;
#[cfg(test)]
mod tests;
