//! Whole-river tests: the real binary's rooms in one process, and the rules of the house.
//!
//! `cargo test` alone runs what needs no server and says what it leaves out; `make test` leaves nothing out.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;
mod answers;
mod river;
mod turns;
mod deliveries;
mod bad_days;
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
