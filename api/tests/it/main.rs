//! The API on a real Postgres: every test has a database of its own, made by the migrations.
//!
//! Needs `SECRETARIA_TEST_POSTGRES`, the URL of a superuser; without it each test says that it was left out, and fails
//! if `SECRETARIA_TEST=all` promised that none would be.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod database;
mod companies;
mod webhooks;
mod isolation;
mod requests;
