//! delivery — sends outbound messages through the provider, one of a conversation at a time.
//!
//! reads    `outbound.messages`, key company/conversation
//! writes   `dead.letters` and `activity.events`, through the outbox
//! owns     tables `deliveries`, `delivery_attempts`
//! repeats  safe up to the call itself: an attempt is stored before it is made, and one whose end is not known is
//!          `UNKNOWN`; after it a reply is sent once more at most
//!
//! One attempt and five retries after 5, 15, 45, 90 and 90 s. While a message waits for its retry, later ones of its
//! conversation wait too, so the order is kept.

mod decide;
mod store;
mod perform;
mod work;
pub mod whaticket;
#[cfg(test)]
mod tests;

use domain::{EventOutcome, Kind, OutboundMessage, ProcessorName, Topic};
use platform::consumer::{Event, Handled, Handler};
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Entry, Error, Removal};
use platform::queue::{self, Queue, Schedule};
use platform::settings;
use platform::task::Stop;
use serde::{Deserialize, Serialize};

/// The processor's entry in the list.
pub const PROCESSOR: Entry = Entry {
    queue: Some(QUEUE),
    removal: Removal::Refused(REMOVAL),
    list_settings: &["delivery.retry_after_s"],
    ..Entry::named("delivery", "hands messages to the companies' WhatsApp bridges", &[Topic::OutboundMessages])
};

/// Why no job is removed by hand, and what to do instead.
const REMOVAL: &str = "a message without its job is neither sent nor a dead letter. One that cannot be sent becomes one after \
     its last attempt, and `secretaria dead-letters drop` settles it. `secretaria queue pause` holds it until then";

const QUEUE: Queue = Queue::named("delivery");

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Waits before the retries, in seconds; their number is the number of retries.
    pub retry_after_s: Vec<f64>,
    /// Multiplies every wait: below 1 for tests and demonstrations.
    pub time_scale: f64,
    /// The part of a wait that is added at random at most, from 0 to 1.
    pub jitter: f64,
    /// The longest one send may take, in milliseconds.
    pub timeout_ms: u64,
    pub runner: queue::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            retry_after_s: vec![5.0, 15.0, 45.0, 90.0, 90.0],
            time_scale: 1.0,
            jitter: 0.0,
            timeout_ms: 10_000,
            runner: queue::Config::default(),
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        self.schedule().validate("delivery", 86_400.0)?;
        self.runner.validate("delivery.runner")?;
        if !(100..=120_000).contains(&self.timeout_ms) {
            return Err(settings::Error::invalid("delivery.timeout_ms", "must be between 100 and 120000"));
        }
        Ok(())
    }

    /// # Errors
    /// None: a process that runs this needs no further settings.
    pub fn validate_to_run(&self) -> Result<(), settings::Error> {
        Ok(())
    }

    /// How long calls under way may go on after a stop, in milliseconds.
    pub fn drain_ms(&self) -> u64 {
        self.runner.drain_ms
    }

    fn schedule(&self) -> Schedule {
        Schedule { retry_after_s: self.retry_after_s.clone(), time_scale: self.time_scale, jitter: self.jitter }
    }
}

/// Runs the consumer and the worker until stopped.
///
/// # Errors
/// If a client cannot be made.
pub async fn run(context: Context, config: Config, stop: Stop) -> Result<(), Error> {
    let work = work::Sending::new(&context, &config)?;
    context.consume_and_work(OutboundMessageHandler, work, config.runner, stop).await
}

struct OutboundMessageHandler;

impl Handler for OutboundMessageHandler {
    type Payload = OutboundMessage;

    const PROCESSOR: ProcessorName = PROCESSOR.name;
    const TOPICS: &'static [Topic] = &[Topic::OutboundMessages];
    const KINDS: &'static [Kind] = &[Kind::OutboundMessage];
    const QUEUE: Option<Queue> = PROCESSOR.queue;

    async fn handle(&self, tx: &Transaction<'_>, events: &[Event<'_, Self::Payload>]) -> Result<Handled, Failure> {
        let mut jobs = Vec::with_capacity(events.len());
        for it in events {
            jobs.push(store::open(tx, it).await?);
        }
        Ok(Handled { outcomes: vec![EventOutcome::InFlight; events.len()], jobs })
    }
}
