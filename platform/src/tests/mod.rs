//! Tests of what this crate promises. Those about tables need a Postgres.

pub(crate) mod broker;
pub(crate) mod database;
mod consumer;
mod checks;
mod outcomes;
mod outbox;
mod dead_letter;
mod postgres;
mod relay;
