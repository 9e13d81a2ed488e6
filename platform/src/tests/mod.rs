//! What the ground promises, as claims. Those about tables run in a Postgres; the rest needs nothing.

pub(crate) mod broker;
pub(crate) mod database;
mod intake;
mod laws;
mod marks;
mod outbox;
mod park;
mod postgres;
mod relay;
