//! What a processor provides for its jobs: load, call, finish.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::Queue;
use super::circuit::{Circuit, Health};
use super::job::{Claimed, Ending};
use crate::postgres::{Failure, Transaction};
use crate::task::Stop;

/// A processor's slow work. The worker takes care of leases, retries of the database, grouping, logging and shutdown.
pub trait Work: Send + Sync + 'static {
    /// What a call needs.
    type Job: Send + Sync + 'static;
    /// The result of a call.
    type Output: Send + Sync + 'static;

    const QUEUE: Queue;

    /// Whether jobs are claimed shortly before their slot is free. Not if [`Work::begin`] records that the call is made: after
    /// a crash it would be unknown whether it was.
    const CLAIMS_AHEAD: bool = false;

    /// Reads what the calls need, in the transaction of the claim; one entry per job, in order. Called again when the lease
    /// has expired, if there is a [`Work::expired_output`].
    fn load(
        &self,
        tx: &Transaction<'_>,
        claimed: &[Claimed],
    ) -> impl Future<Output = Result<LoadedJobs<Self::Job, Self::Output>, Failure>> + Send;

    /// The circuit of the call. While it is open the job is held back.
    fn circuit(&self, _job: &Self::Job) -> Option<Circuit> {
        None
    }

    /// How long a job may be held back; then [`Work::held_too_long`] is its result.
    fn hold_limit(&self) -> HoldLimit {
        HoldLimit::SinceDue(Duration::from_secs(300))
    }

    /// The result of a job that was held back for as long as [`Work::hold_limit`] allows.
    fn held_too_long(&self, claimed: &Claimed, job: &Self::Job) -> Self::Output;

    /// Records that calls are about to be made, in the transaction of the claim.
    fn begin(
        &self,
        _tx: &Transaction<'_>,
        _starting: &mut [(&Claimed, &mut Self::Job)],
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Makes the call, outside any transaction.
    fn call(&self, claimed: &Claimed, job: &Self::Job, call: &Call) -> impl Future<Output = Self::Output> + Send;

    /// Commits the effects of results whose leases still hold; one ending per result, in order.
    ///
    /// Must be repeatable: a transaction that fails is tried again, and a group that fails is committed one by one.
    fn finish(
        &self,
        tx: &Transaction<'_>,
        performed: &[Performed<'_, Self::Job, Self::Output>],
    ) -> impl Future<Output = Result<Vec<Ending>, Failure>> + Send;

    /// A replacement for a result that Postgres refuses; `None` postpones the job.
    fn refused(&self, _performed: &Performed<'_, Self::Job, Self::Output>, _failure: &Failure) -> Option<Self::Output> {
        None
    }

    /// The result of a call whose lease expired, because its worker crashed or lost its connection. It is finished like any
    /// other result; with `None` the call is made again at once.
    fn expired_output(&self) -> Option<Self::Output> {
        None
    }

    /// A result, for the log, the metrics and the circuit.
    fn summary(&self, job: &Self::Job, output: &Self::Output) -> Summary;

    /// Called after a commit, for metrics of the processor's own.
    fn committed(&self, _performed: &Performed<'_, Self::Job, Self::Output>, _ending: &Ending) {}
}

/// Finishes results, one ending each.
pub(super) async fn finish<W: Work>(
    work: &W,
    tx: &Transaction<'_>,
    performed: &[Performed<'_, W::Job, W::Output>],
) -> Result<Vec<Ending>, Failure> {
    if performed.is_empty() {
        return Ok(Vec::new());
    }
    let endings = work.finish(tx, performed).await?;
    if endings.len() != performed.len() {
        return Err(Failure::Refused(format!("{} results have {} endings", performed.len(), endings.len())));
    }
    Ok(endings)
}

/// A job, loaded.
#[derive(Debug)]
pub enum Loaded<J, O> {
    /// The call is to be made.
    Call(J),
    /// The result is known without a call.
    Known(J, O),
    /// Nothing is to be done any more: the job ends.
    Gone,
}

/// One entry per job, in order.
pub type LoadedJobs<J, O> = Vec<Loaded<J, O>>;

/// How long a job may be held back while its circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldLimit {
    /// Since the job was due: a deadline.
    SinceDue(Duration),
    /// Since the job was due or the circuit opened, whichever came later: as long as a whole retry schedule.
    WhileOpen(Duration),
}

/// A job and the result of its call.
#[derive(Debug)]
pub struct Performed<'a, J, O> {
    pub claimed: &'a Claimed,
    pub job: &'a J,
    pub output: &'a O,
}

/// A result, for the log, the metrics and the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The name of the result in log lines.
    pub result: &'static str,
    /// The class of the failure, if it was one; a metric label.
    pub class: Option<&'static str>,
    /// What it says about the provider.
    pub health: Health,
}

/// A running call: its progress, and whether it was cancelled.
#[derive(Debug, Clone, Default)]
pub struct Call {
    progress: Arc<AtomicI32>,
    cancelled: Stop,
}

/// No progress was reported yet.
const NONE: i32 = -1;

impl Call {
    pub(super) fn new() -> Self {
        Call { progress: Arc::new(AtomicI32::new(NONE)), cancelled: Stop::new() }
    }

    /// Reports how much is done, in thousandths; stored when the lease is next renewed.
    pub fn progress(&self, permille: u16) {
        self.progress.store(i32::from(permille.min(1_000)), Ordering::Relaxed);
    }

    /// Resolves when an operator has cancelled the job. A call that ignores it goes on.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether an operator has cancelled the job.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    pub(super) fn reported(&self) -> Option<i16> {
        i16::try_from(self.progress.load(Ordering::Relaxed)).ok().filter(|it| *it >= 0)
    }

    pub(super) fn cancel(&self) {
        self.cancelled.cancel();
    }
}
