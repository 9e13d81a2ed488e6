//! Accepts signed webhooks and publishes them to Kafka. A 202 means that the record is durable.
//!
//! No webhook waits for Postgres: companies and their secrets are a snapshot in memory.

pub mod signature;
pub mod parse;
pub mod rejection;
mod companies;
mod description;
mod publish;
mod webhook;
#[cfg(test)]
mod tests;

pub use companies::{Companies, Source};
pub use description::document;
pub use webhook::{Ingest, Webhooks, WebhooksFirst};

use platform::settings;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest body of a webhook, in bytes.
    pub body_limit_bytes: usize,
    /// How long reading a body may take, in milliseconds.
    pub body_timeout_ms: u64,
    /// How often companies are read again without a notification that they changed, in seconds.
    pub refresh_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { body_limit_bytes: 1_048_576, body_timeout_ms: 10_000, refresh_s: 30 }
    }
}

impl Config {
    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// Names the setting that is not.
    pub fn validate(&self) -> Result<(), settings::Error> {
        // Kafka's own limit for a record is one MiB by default; the envelope takes some of it.
        if !(1_024..=16_777_216).contains(&self.body_limit_bytes) {
            return Err(settings::Error::invalid("ingest.body_limit_bytes", "must be between 1024 and 16777216"));
        }
        if self.body_timeout_ms < 100 {
            return Err(settings::Error::invalid("ingest.body_timeout_ms", "must be at least 100"));
        }
        if !(1..=3_600).contains(&self.refresh_s) {
            return Err(settings::Error::invalid("ingest.refresh_s", "must be between 1 and 3600"));
        }
        Ok(())
    }
}
