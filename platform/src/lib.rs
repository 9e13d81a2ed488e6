//! What all other crates use: settings, Kafka, Postgres, the mechanisms that move data, HTTP, telemetry, shutdown.
//!
//! Contains no business terms beyond the names in `domain`. [`consumer`] moves records from topics into Postgres exactly
//! once, [`queue`] runs slow work from rows, [`outbox`] moves rows to topics.

pub mod consumer;
pub mod egress;
pub mod http;
pub mod kafka;
pub mod outbox;
pub mod postgres;
pub mod queue;

mod observability;
mod runtime;
mod security;

pub use consumer::{dead_letter, outcomes};
pub use egress::attempt;
pub use http::{openapi, problem, request};
pub use kafka::topic_ends;
pub use observability::{health, heartbeat, metric, telemetry, trace};
pub use outbox::relay;
pub use postgres::migrate;
pub use runtime::{clock, instance, object_store, processor, settings, task};
pub use security::{seal, secret, webhook};

use runtime::pace;

#[cfg(test)]
extern crate self as platform; // Tests name the crate as its users do.
#[cfg(test)]
mod tests;
