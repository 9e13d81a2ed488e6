//! End-to-end tests: all roles of the binary in one process, and the rules that hold for the repository.
//!
//! `cargo test` alone runs what needs no server and prints what it leaves out; `make test` leaves nothing out.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;
mod answers;
mod pipeline;
mod analytics;
mod turns;
mod deliveries;
mod failures;
mod dead_letters;
mod queues;
mod names;
mod upgrade;
mod limits;
mod alerts;
mod people;
mod crash;
mod leases;
mod added_processor;

mod tidy;
mod producers;
mod receivers;
