//! rollups — the numbers of each company's days, computed from the lake.
//!
//! reads    the lake's files, `companies`, `ai_model_prices`
//! writes   `rollup_parts`, `rollup_days`, `rollup_day_counts`
//! repeats  safe: a UTC day is computed as a whole and replaced as a whole
//!
//! The unit of work is a UTC day of the lake. What its events add to days of companies are its *parts* ([`part`]); a UTC
//! day that changed is read alone, its parts are replaced, and the days that they belong to are added up again from all of
//! their parts. So a late event costs one day's files, and any order, repetition and delay of the same events gives the same
//! rows. An event counts once on each UTC day that it is said to have occurred on.
//!
//! In reading order: [`part`], [`compute`] (files to parts), [`store`] (parts to rows), [`refresh`] (one day), [`work`] (all
//! dirty days, as a job), [`verify`] (the rows compared with the ledger and with the lake).

mod aggregates;
pub mod compute;
pub mod part;
pub mod prices;
pub mod refresh;
pub mod series;
pub mod store;
pub mod verify;
mod work;
mod zones;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use platform::processor::{Context, Entry, Error, Removal};
use platform::queue::{self, Periodic, Queue};
use platform::settings;
use platform::task::Stop;
use serde::{Deserialize, Serialize};

pub use refresh::Rollups;
pub use verify::{Comparison, against_ledger, against_parts};
pub use zones::Zones;

use crate::lake::Lake;
use crate::lake::engine::Limits;

const QUEUE: Queue = Queue::named("rollups");

/// The processor's entry in the list.
pub const PROCESSOR: Entry = Entry {
    queue: Some(QUEUE),
    removal: Removal::Allowed,
    ..Entry::named("rollups", "computes the numbers of each day from the lake", &[])
};

/// Settings `rollups.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often dirty days are looked for, in milliseconds.
    pub every_ms: u64,
    pub limits: Limits,
    pub runner: queue::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            every_ms: 10_000,
            limits: Limits::default(),
            // A job computes every dirty day, one after another.
            runner: queue::Config { window: 1, ..queue::Config::default() },
        }
    }
}

impl Config {
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if !(100..=86_400_000).contains(&self.every_ms) {
            return Err(settings::Error::invalid("rollups.every_ms", "must be between 100 and 86400000"));
        }
        self.limits.validate("rollups.limits")?;
        self.runner.validate("rollups.runner")
    }

    /// # Errors
    /// None: the lake is opened when the processor starts.
    pub fn validate_to_run(&self) -> Result<(), settings::Error> {
        Ok(())
    }

    /// How long a computation may go on after a stop, in milliseconds.
    pub fn drain_ms(&self) -> u64 {
        self.runner.drain_ms
    }
}

/// Runs until stopped.
///
/// # Errors
/// If the lake cannot be opened.
pub async fn run(context: Context, config: Config, stop: Stop) -> Result<(), Error> {
    let lake = Lake::open(&context.object_store).map_err(Error::client)?;
    let rollups = Rollups { lake, db: context.db.clone(), limits: Arc::new(config.limits) };
    let refresh = Periodic { name: "refresh", every: Duration::from_millis(config.every_ms) };
    context.work_periodically(work::Refresh { rollups }, &[refresh], config.runner, stop).await
}
