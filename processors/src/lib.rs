//! Topics → effects. Each processor is a folder with the same files; which there are is one list, in the program.
//!
//! `mod.rs` is the contract, `decide.rs` is pure, `perform.rs` runs effects inside one transaction, `store.rs` is the
//! folder's SQL (each table has one writing module), `work.rs` makes the slow calls between transactions.
//!
//! What several of them need is beside them: [`conversations`], with the messages of both sides, and `ledger`.

pub mod reply;
pub mod delivery;
pub mod metering;
pub mod alerts;
pub mod dead_letters;
pub mod conversations;
mod ledger;
#[cfg(test)]
mod tests;
