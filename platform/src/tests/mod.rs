//! What the ground promises, as claims. Those about tables run in a Postgres; the rest needs nothing.

pub(crate) mod broker;
pub(crate) mod database;
mod consumer;
mod laws;
mod outcomes;
mod outbox;
mod dead_letter;
mod postgres;
mod relay;
