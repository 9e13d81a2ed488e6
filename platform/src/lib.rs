//! What Secretaria stands on: settings, Kafka, Postgres, the two mechanisms that move data, HTTP, telemetry, shutdown.
//!
//! Knows no business word beyond the names in `domain`. Two mechanisms move everything:
//! [`consumer`] brings topics into Postgres exactly once, [`queue`] does slow work from rows.

pub mod clock;
mod pace;
pub mod settings;
pub mod secret;
pub mod seal;
pub mod webhook;
pub mod egress;
pub mod task;
pub mod telemetry;
mod json_line;
pub mod lines;
pub mod trace;
pub mod metric;
pub mod postgres;
pub mod migrate;
pub mod kafka;
pub mod consumer;
pub mod attempt;
pub mod queue;
pub mod processor;
pub mod outcomes;
pub mod outbox;
pub mod relay;
pub mod dead_letter;
pub mod watermarks;
pub mod heartbeat;
pub mod instance;
pub mod http;
pub mod problem;
pub mod request;
pub mod openapi;
pub mod health;

#[cfg(test)]
extern crate self as platform; // The tests' database is shared with crates that know this one by its name.
#[cfg(test)]
mod tests;
