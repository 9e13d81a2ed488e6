//! Secrets: in memory, sealed in tables, and as signatures on webhooks.

pub mod seal;
pub mod secret;
pub mod webhook;
