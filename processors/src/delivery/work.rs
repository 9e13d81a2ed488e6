//! The send, between two transactions.

use std::time::Duration;

use domain::{CompanyId, EventId, ProcessorName};
use metrics::histogram;
use platform::postgres::{Db, Failure};
use platform::runner::{Claimed, Work};
use platform::seal::{Place, Sealer};
use platform::{clock, metric};
use std::sync::Arc;

use super::claims::{self, Claim, Credentials};
use super::perform::{self, Finish};
use super::whaticket::{self, Verdict};
use super::Config;
use crate::{Error, Ground};

/// Sends messages.
pub(super) struct Sending {
    db: Db,
    instance: String,
    sealer: Arc<Sealer>,
    provider: whaticket::Client,
    waits: Vec<Duration>,
    lease: Duration,
}

impl Sending {
    pub(super) fn new(ground: &Ground, config: &Config) -> Result<Self, Error> {
        Ok(Sending {
            db: ground.db.clone(),
            instance: ground.instance.clone(),
            sealer: Arc::clone(&ground.sealer),
            provider: whaticket::Client::new(Duration::from_millis(config.timeout_ms))?,
            waits: config.waits(),
            lease: Duration::from_millis(config.runner.lease_ms),
        })
    }
}
