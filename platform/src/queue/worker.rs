//! The worker: claims jobs while it has free slots, makes their calls, and passes the results on to be committed.
//!
//! Only a bounded window of jobs is in memory, never the backlog. On stop nothing more is claimed and running calls have
//! `drain_ms` to end; the leases of the others expire.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::claimer::Claimer;
use super::commit::{self, Results};
use super::shared::{Shared, open_circuits_now};
use super::work::Work;
use super::{Config, Wake, reclaim, renewal};
use crate::postgres::Db;
use crate::task::{self, Stop};

/// A processor's worker; [`Worker::run`] runs it.
pub struct Worker<W: Work> {
    pub work: W,
    pub db: Db,
    pub config: Config,
    /// This process's stable name.
    pub instance: String,
    pub wake: Wake,
}

impl<W: Work> Worker<W> {
    /// Works until stopped, then lets running calls end for `drain_ms`. While Postgres is unavailable it waits.
    pub async fn run(self, stop: Stop) {
        let config = self.config;
        let shared = Arc::new(Shared::from(self));
        reclaim::expire_previous_run(&shared, &stop).await;
        let ended = Stop::new();
        let renewing = task::spawn("lease renewal", renewal::keep_renewing(Arc::clone(&shared), ended.clone()));
        let reclaiming = task::spawn("lease reclaim", reclaim::keep_reclaiming(Arc::clone(&shared), stop.clone()));
        let (send, results) = mpsc::channel(config.window.min(commit::MAX_GROUP));
        let committing = task::spawn("results", commit::keep_committing(Arc::clone(&shared), Results::from(results)));
        let mut claimer = Claimer::new(Arc::clone(&shared), send);
        claimer.run(&stop).await;
        claimer.drain(committing).await;
        ended.cancel();
        let _ = tokio::join!(renewing, reclaiming);
        open_circuits_now(W::QUEUE.name(), HashMap::new());
    }
}

impl<W: Work> From<Worker<W>> for Shared<W> {
    fn from(worker: Worker<W>) -> Self {
        let Worker { work, db, config, instance, wake } = worker;
        Shared::new(work, db, config, instance, wake)
    }
}
