//! Runner: slow work from rows.
//!
//! A row that needs a call has a state, a due instant, a lease and a count of claims. Claiming is a committed
//! transaction (the intent), then the call is made, then its result is the next transaction, which counts only if the
//! claim still holds. What is in memory is a bounded window, never the backlog; a row whose holder died is claimed
//! again when its lease has run out, or at once when the same instance starts again.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use domain::ProcessorName;
use metrics::{gauge, histogram};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::postgres::Failure;
use crate::task::Stop;
use crate::telemetry::chain;
use crate::{clock, metric};

/// Settings of a processor's runner: `reply.runner.*`, `delivery.runner.*`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most calls under way at once.
    pub window: usize,
    /// Longest time between two looks for due rows, in milliseconds.
    pub sweep_ms: u64,
    /// How long a claim holds without being renewed, in milliseconds.
    pub lease_ms: u64,
    /// How long calls under way may go on after a stop, in milliseconds.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { window: 512, sweep_ms: 500, lease_ms: 15_000, drain_ms: 25_000 }
    }
}

/// A processor's slow work.
pub trait Work: Send + Sync + 'static {
    /// One claimed row, complete.
    type Job: Send + 'static;
    /// Names a claim: the row and which claim of it this is.
    type Claim: Clone + Eq + Hash + Send + Sync + 'static;

    /// Whose work it is.
    const PROCESSOR: ProcessorName;

    /// Makes rows that an earlier life of this instance had claimed due again.
    fn take_back(&self) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Claims at most `most` due rows, company by company in turn, and commits that.
    fn claim(&self, most: usize) -> impl Future<Output = Result<Claimed<Self::Job>, Failure>> + Send;

    /// Which claim a job is.
    fn name(&self, job: &Self::Job) -> Self::Claim;

    /// Keeps claims from running out.
    fn renew(&self, claims: &[Self::Claim]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Does the work and commits its result; returns when that is done or the claim is lost.
    fn perform(&self, job: Self::Job) -> impl Future<Output = ()> + Send;
}

/// What a claim brought.
#[derive(Debug)]
pub struct Claimed<J> {
    /// The work.
    pub jobs: Vec<J>,
    /// How long until the next row is due, if one is waiting.
    pub next_due: Option<Duration>,
}

/// Wakes a runner before its next sweep; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There may be something to do.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Works until stopped, then lets calls under way end for `drain_ms`. Away Postgres only makes it wait.
pub async fn run<W: Work>(work: Arc<W>, config: Config, wake: Wake, stop: Stop) {
    let mut shift = Shift { work, config, under_way: JoinSet::new(), claims: HashSet::new() };
    shift.take_back(&stop).await;
    let mut renewal = tokio::time::interval(Duration::from_millis((config.lease_ms / 3).max(50)));
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(done) = shift.under_way.join_next() => {
                shift.forget(done);
                // A place is free, and a conversation may have its next row ready.
                wait = Duration::from_millis(1).min(wait);
                continue;
            }
            _ = renewal.tick() => {
                shift.renew().await;
                continue;
            }
            () = wake.0.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        wait = shift.claim().await;
    }
    shift.drain().await;
}

struct Shift<W: Work> {
    work: Arc<W>,
    config: Config,
    under_way: JoinSet<W::Claim>,
    claims: HashSet<W::Claim>,
}

impl<W: Work> Shift<W> {
    async fn take_back(&self, stop: &Stop) {
        loop {
            match self.work.take_back().await {
                Ok(0) => return,
                Ok(rows) => {
                    return tracing::info!(processor = %W::PROCESSOR, rows, "took back what an earlier life had claimed");
                }
                Err(problem) => {
                    tracing::warn!(processor = %W::PROCESSOR, error = chain(&problem), "runner waits for postgres")
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Fills the window and says how long to wait before looking again.
    async fn claim(&mut self) -> Duration {
        let free = self.config.window.saturating_sub(self.under_way.len()).min(256);
        let sweep = Duration::from_millis(self.config.sweep_ms);
        if free == 0 {
            return sweep;
        }
        match self.work.claim(free).await {
            Ok(Claimed { jobs, next_due }) => {
                let wait = if jobs.is_empty() { next_due.unwrap_or(sweep).min(sweep) } else { Duration::ZERO };
                jobs.into_iter().for_each(|job| self.begin(job));
                gauge!(metric::RUNNER_IN_FLIGHT, "processor" => W::PROCESSOR.as_str()).set(self.under_way.len() as f64);
                wait.max(Duration::from_millis(2))
            }
            Err(problem) => {
                tracing::warn!(processor = %W::PROCESSOR, error = chain(&problem), "runner waits for postgres");
                // Results already in hand are written with shorter pauses than this, so they come first.
                Duration::from_secs(1)
            }
        }
    }

    fn begin(&mut self, job: W::Job) {
        let claim = self.work.name(&job);
        self.claims.insert(claim.clone());
        let work = Arc::clone(&self.work);
        self.under_way.spawn(async move {
            let began = clock::instant();
            work.perform(job).await;
            histogram!(metric::TASK_LATENCY, "task" => W::PROCESSOR.as_str()).record(began.elapsed().as_secs_f64());
            claim
        });
    }

    fn forget(&mut self, done: Result<W::Claim, tokio::task::JoinError>) {
        match done {
            Ok(claim) => drop(self.claims.remove(&claim)),
            // Its claim is renewed no longer than this process lives, and then the row is claimed again.
            Err(problem) => {
                tracing::error!(processor = %W::PROCESSOR, error = chain(&problem), "work ended without a result")
            }
        }
    }

    async fn renew(&self) {
        if self.claims.is_empty() {
            return;
        }
        let claims: Vec<W::Claim> = self.claims.iter().cloned().collect();
        if let Err(problem) = self.work.renew(&claims).await {
            tracing::warn!(processor = %W::PROCESSOR, error = chain(&problem), "claims could not be renewed");
        }
    }

    async fn drain(mut self) {
        let patience = tokio::time::sleep(Duration::from_millis(self.config.drain_ms));
        tokio::pin!(patience);
        let mut renewal = tokio::time::interval(Duration::from_millis((self.config.lease_ms / 3).max(50)));
        while !self.under_way.is_empty() {
            tokio::select! {
                () = &mut patience => {
                    tracing::warn!(processor = %W::PROCESSOR, left = self.under_way.len(), "stopped with calls under way");
                    return;
                }
                Some(done) = self.under_way.join_next() => self.forget(done),
                _ = renewal.tick() => self.renew().await,
            }
        }
    }
}
