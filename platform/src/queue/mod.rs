//! Job queue: slow and timed work from rows of Postgres.
//!
//! A job is enqueued in the transaction that causes it and deleted in the one that ends it. Its state is the table that it
//! is in: scheduled, ready, waiting behind others of its lane, running, dead. One transaction claims a job, then the call
//! is made, then another transaction commits its result, which is valid only while the lease holds. A lane runs one job at
//! a time and in order, also across retries. A free slot goes to the company with the fewest jobs in flight.
//!
//! `sql/` holds the statements on the tables; [`worker`] is the loop that a processor runs, [`Work`] is what it provides.

mod by_key;
mod circuit;
mod claimer;
mod commit;
mod fair;
mod gauges;
mod job;
mod leases;
mod load;
pub mod operate;
pub mod overview;
mod periodic;
mod reclaim;
mod renewal;
mod retry;
mod shared;
mod steps;
mod store;
mod wake;
mod work;
mod worker;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::settings;

pub use by_key::{Change, cancel, postpone, reschedule};
pub use circuit::{Circuit, Config as CircuitConfig, Health};
pub use gauges::keep_measuring;
pub use job::{Claimed, Due, Ending, Lease, NewJob};
pub use periodic::{Periodic, begin as begin_tick, run as run_periodic};
pub use retry::{Schedule, retry_after, retry_info};
pub use shared::open_circuits;
pub use steps::{Started, Steps};
pub use store::{Enqueued, enqueue, prefer_indexes};
pub use wake::Wake;
pub use work::{Call, HoldLimit, Loaded, LoadedJobs, Performed, Summary, Work};
pub use worker::Worker;

/// A queue, by its name in tables, metrics and commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Queue(&'static str);

impl Queue {
    /// The queue of that name: lowercase letters and underscores.
    pub const fn named(name: &'static str) -> Self {
        Queue(name)
    }

    pub fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Settings of a processor's worker: `reply.runner.*`, `delivery.runner.*`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most calls in flight in this process. Results that wait for their commit have a bound of their own.
    pub window: usize,
    /// Most jobs of one company in flight, over all processes, unless `queue_limits` says otherwise. 0: no cap.
    pub company_cap: usize,
    /// Most calls to one provider with one credential at once in this process. 0: no cap.
    pub provider_cap: usize,
    /// The longest time between two sweeps for ready jobs that other processes have enqueued, in milliseconds.
    pub sweep_ms: u64,
    /// How long a lease holds without being renewed, in milliseconds.
    pub lease_ms: u64,
    /// How long running calls may go on after a stop, in milliseconds.
    pub drain_ms: u64,
    /// When a provider is not called for a while.
    pub circuit: CircuitConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            window: 512,
            company_cap: 0,
            provider_cap: 0,
            sweep_ms: 500,
            lease_ms: 15_000,
            drain_ms: 25_000,
            circuit: CircuitConfig::default(),
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the invalid setting in `section`.
    pub fn validate(&self, section: &'static str) -> Result<(), settings::Error> {
        let circuit = &self.circuit;
        let problem = if !(1..=100_000).contains(&self.window) {
            "window must be between 1 and 100000"
        } else if !(10..=60_000).contains(&self.sweep_ms) {
            "sweep_ms must be between 10 and 60000"
        } else if self.lease_ms < 1_000 {
            "lease_ms must be at least 1000"
        } else if circuit.failures == 0 {
            "circuit.failures must be at least 1"
        } else if !(10..=3_600_000).contains(&circuit.open_ms) || circuit.open_cap_ms < circuit.open_ms {
            "circuit.open_ms must be between 10 and 3600000, and circuit.open_cap_ms not below it"
        } else {
            return Ok(());
        };
        Err(settings::Error::invalid(section, problem))
    }

    fn company_cap(&self) -> usize {
        if self.company_cap == 0 { usize::MAX } else { self.company_cap }
    }

    fn provider_cap(&self) -> usize {
        if self.provider_cap == 0 { usize::MAX } else { self.provider_cap }
    }
}
