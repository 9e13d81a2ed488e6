//! Runner: slow work from rows.
//!
//! A row that needs a call has a state, a due instant, a lease and a count of claims. Claiming is a committed
//! transaction (the intent), then the call is made, then its result is the next transaction, which counts only if the
//! claim still holds. What is in memory is a bounded window, never the backlog; a row whose holder died is claimed
//! again when its lease has run out, or at once when the same instance starts again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::ProcessorName;
use metrics::{gauge, histogram};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::postgres::Failure;
use crate::settings;
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

impl Config {
    /// Checks what makes no sense.
    ///
    /// # Errors
    /// Names the setting; `room` is whose runner it is.
    pub fn validate(&self, room: &'static str) -> Result<(), settings::Error> {
        let problem = if !(1..=100_000).contains(&self.window) {
            "window must be between 1 and 100000"
        } else if !(10..=60_000).contains(&self.sweep_ms) {
            "sweep_ms must be between 10 and 60000"
        } else if self.lease_ms < 1_000 {
            "lease_ms must be at least 1000"
        } else {
            return Ok(());
        };
        Err(settings::Error::senseless(room, problem))
    }
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
    let renewed_at = clock::instant();
    let mut shift = Shift { work, config, under_way: JoinSet::new(), claims: HashMap::new(), renewed_at };
    shift.take_back(&stop).await;
    let mut renewal = tokio::time::interval(shift.renewal_period());
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look_at = clock::instant();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(done) = shift.under_way.join_next_with_id() => {
                shift.forget(done);
                // A place is free, and a conversation may have its next row ready.
                look_at = look_at.min(clock::instant() + Duration::from_millis(1));
                continue;
            }
            _ = renewal.tick() => {
                // A failure is logged; before the next claim it is tried again.
                let _ = shift.renew().await;
                continue;
            }
            () = wake.0.notified() => {}
            () = tokio::time::sleep_until(look_at.into()) => {}
        }
        look_at = clock::instant() + shift.claim().await;
    }
    shift.drain().await;
}

struct Shift<W: Work> {
    work: Arc<W>,
    config: Config,
    under_way: JoinSet<()>,
    claims: HashMap<tokio::task::Id, W::Claim>,
    renewed_at: Instant,
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
        match self.claim_after_renewal(free).await {
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

    /// After an absence of Postgres the claims held here may look abandoned. They are not: they are renewed first, so
    /// that nobody, this process included, takes them for dead before their results are written.
    async fn claim_after_renewal(&mut self, most: usize) -> Result<Claimed<W::Job>, Failure> {
        if self.renewed_at.elapsed() > self.renewal_period() {
            self.renew().await?;
        }
        self.work.claim(most).await
    }

    fn renewal_period(&self) -> Duration {
        Duration::from_millis((self.config.lease_ms / 3).max(50))
    }

    fn begin(&mut self, job: W::Job) {
        let claim = self.work.name(&job);
        let work = Arc::clone(&self.work);
        let task = self.under_way.spawn(async move {
            let began = clock::instant();
            work.perform(job).await;
            histogram!(metric::TASK_LATENCY, "task" => W::PROCESSOR.as_str()).record(began.elapsed().as_secs_f64());
        });
        self.claims.insert(task.id(), claim);
    }

    /// A claim whose work ended without a result is no longer renewed: it runs out, and the row is claimed again.
    fn forget(&mut self, done: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let task = match done {
            Ok((task, ())) => task,
            Err(problem) => {
                tracing::error!(processor = %W::PROCESSOR, error = chain(&problem), "work ended without a result");
                problem.id()
            }
        };
        self.claims.remove(&task);
    }

    async fn renew(&mut self) -> Result<(), Failure> {
        let claims: Vec<W::Claim> = self.claims.values().cloned().collect();
        if !claims.is_empty()
            && let Err(problem) = self.work.renew(&claims).await
        {
            tracing::warn!(processor = %W::PROCESSOR, error = chain(&problem), "claims could not be renewed");
            return Err(problem);
        }
        self.renewed_at = clock::instant();
        Ok(())
    }

    async fn drain(mut self) {
        let patience = tokio::time::sleep(Duration::from_millis(self.config.drain_ms));
        tokio::pin!(patience);
        let mut renewal = tokio::time::interval(self.renewal_period());
        while !self.under_way.is_empty() {
            tokio::select! {
                () = &mut patience => {
                    tracing::warn!(processor = %W::PROCESSOR, left = self.under_way.len(), "stopped with calls under way");
                    return;
                }
                Some(done) = self.under_way.join_next_with_id() => self.forget(done),
                _ = renewal.tick() => drop(self.renew().await),
            }
        }
    }
}
