//! delivery — hands our messages to the provider, one of a conversation at a time.
//!
//! reads    `outbound.messages`, key company/conversation
//! writes   `dead.letters`, through the outbox
//! owns     tables `deliveries`, `delivery_attempts`
//! repeats  safe up to the call itself: an attempt is written down before it is made, and one whose end nobody saw is
//!          `UNKNOWN`; a reply is then sent once more and no further
//!
//! One attempt and five retries after 5, 15, 45, 90 and 90 s. While the head of a conversation waits for its retry,
//! those behind it wait too, so order holds.

mod decide;
mod store;
mod claims;
mod perform;
mod work;
pub mod whaticket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use domain::{Kind, Mark, OutboundMessage, ProcessorName, Topic};
use platform::intake::{self, Fresh, Intake};
use platform::postgres::{Failure, Transaction};
use platform::runner::{self, Wake};
use platform::settings;
use platform::task::{self, Stop};
use serde::{Deserialize, Serialize};

use crate::{Error, Ground, together};

/// Settings `delivery.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Waits before the retries, in seconds; their number is the number of retries.
    pub retry_after_s: Vec<f64>,
    /// Multiplies every wait: below 1 for tests and demonstrations.
    pub time_scale: f64,
    /// The longest one send may take, in milliseconds.
    pub timeout_ms: u64,
    /// The runner.
    pub runner: runner::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            retry_after_s: vec![5.0, 15.0, 45.0, 90.0, 90.0],
            time_scale: 1.0,
            timeout_ms: 10_000,
            runner: runner::Config::default(),
        }
    }
}

impl Config {
    /// Checks what makes no sense.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        let sane = |seconds: &f64| (0.0..=86_400.0).contains(seconds);
        if self.retry_after_s.len() > 20 || !self.retry_after_s.iter().all(sane) {
            let problem = "at most 20 waits, each between 0 and 86400 seconds";
            return Err(settings::Error::senseless("delivery.retry_after_s", problem));
        }
        if !(0.0..=10.0).contains(&self.time_scale) {
            return Err(settings::Error::senseless("delivery.time_scale", "must be between 0 and 10"));
        }
        if !(100..=120_000).contains(&self.timeout_ms) {
            return Err(settings::Error::senseless("delivery.timeout_ms", "must be between 100 and 120000"));
        }
        Ok(())
    }

    fn waits(&self) -> Vec<Duration> {
        self.retry_after_s.iter().map(|seconds| Duration::from_secs_f64(seconds * self.time_scale)).collect()
    }
}

/// Runs the intake and the runner until stopped.
///
/// # Errors
/// If a client cannot be made.
pub async fn run(ground: Ground, config: Config, stop: Stop) -> Result<(), Error> {
    let wake = Wake::default();
    let work = Arc::new(work::Sending::new(&ground, &config)?);
    let sending = task::spawn("delivery runner", runner::run(work, config.runner, wake.clone(), stop.clone()));
    let desk = Arc::new(Desk { wake });
    let taking = intake::run(desk, ground.db, &ground.kafka, &ground.instance, stop.clone());
    together(taking, sending, &stop).await
}

/// Where messages come in.
struct Desk {
    wake: Wake,
}

impl Intake for Desk {
    type Payload = OutboundMessage;

    const PROCESSOR: ProcessorName = ProcessorName::Delivery;
    const TOPIC: Topic = Topic::OutboundMessages;
    const KINDS: &'static [Kind] = &[Kind::OutboundMessage];

    async fn take(&self, tx: &Transaction<'_>, fresh: &[Fresh<'_, Self::Payload>]) -> Result<Vec<Mark>, Failure> {
        for it in fresh {
            store::open(tx, it).await?;
        }
        Ok(vec![Mark::InFlight; fresh.len()])
    }

    fn taken(&self) {
        self.wake.wake();
    }
}
