//! What comes with the extension beside its checks: bindings, upgrades, dumps, and a README that runs.

#![expect(clippy::expect_used, reason = "what fails here fails the test")]

#[path = "../support/mod.rs"]
mod support;
mod bindings;
mod errors;
mod increments;
mod logins;
mod upgrades;
mod crowds;
mod dumps;
mod readme;
