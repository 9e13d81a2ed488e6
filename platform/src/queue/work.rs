//! What a processor provides for its jobs: load, call, finish.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::Queue;
use super::circuit::{Circuit, Health};
use super::job::{Claimed, Ending};
use crate::postgres::{Failure, Transaction};
use crate::task::Stop;

/// A processor's slow work. The worker owns leases, retries of the database, grouping, logging and shutdown.
pub trait Work: Send + Sync + 'static {
    /// What a call needs.
    type Job: Send + Sync + 'static;
    /// What a call brings.
    type Output: Send + Sync + 'static;

    const QUEUE: Queue;

    /// Whether jobs are claimed shortly before their slot is free. Not where [`Work::begin`] writes down that the call is made:
    /// of a worker that dies, nothing could tell whether it was.
    const CLAIMS_AHEAD: bool = false;

    /// Reads what the calls need, in the transaction of the claim; one answer per job, in order. Read again where the lease
    /// has run out and there is an [`Work::expired_output`].
    fn load(
        &self,
        tx: &Transaction<'_>,
        claimed: &[Claimed],
    ) -> impl Future<Output = Result<LoadedJobs<Self::Job, Self::Output>, Failure>> + Send;

    /// Whom the call asks, and as whom. While that circuit is open the job is held back.
    fn circuit(&self, _job: &Self::Job) -> Option<Circuit> {
        None
    }

    /// How long a job may be held back, and what it then comes to.
    fn hold_limit(&self) -> HoldLimit {
        HoldLimit::SinceDue(Duration::from_secs(300))
    }

    /// What a job comes to that was held back for as long as it may be.
    fn held_too_long(&self, claimed: &Claimed, job: &Self::Job) -> Self::Output;

    /// Writes down that calls are about to be made, in the transaction of the claim.
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

    /// What to finish with instead when Postgres refuses what this result would write.
    fn refused(&self, _performed: &Performed<'_, Self::Job, Self::Output>, _failure: &Failure) -> Option<Self::Output> {
        None
    }

    /// What a call came to whose lease ran out: its worker died or was cut off. It is finished like any other result;
    /// without one the call is made again at once.
    fn expired_output(&self) -> Option<Self::Output> {
        None
    }

    /// What the log, the metrics and the circuit are told of a result.
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

/// What loading a job came to.
#[derive(Debug)]
pub enum Loaded<J, O> {
    /// A call is to be made.
    Call(J),
    /// The result is known without a call.
    Known(J, O),
    /// Nothing is to be done any more: the job is over.
    Gone,
}

/// What loading jobs came to, one answer per job.
pub type LoadedJobs<J, O> = Vec<Loaded<J, O>>;

/// How long a job may be held back while its circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldLimit {
    /// From the instant it was due: a deadline that runs on.
    SinceDue(Duration),
    /// From the instant it was due or the circuit opened, whichever came later: a retry schedule as a whole.
    WhileOpen(Duration),
}

/// A job and what its call brought.
#[derive(Debug)]
pub struct Performed<'a, J, O> {
    /// The job as it was claimed.
    pub claimed: &'a Claimed,
    pub job: &'a J,
    pub output: &'a O,
}

/// What the log, the metrics and the circuit are told of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The result in one word.
    pub result: &'static str,
    /// The class of the failure, if it was one.
    pub class: Option<&'static str>,
    /// What it says of the provider.
    pub health: Health,
}

/// A call under way: its progress, and whether it is to end.
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

    /// Reports how much is done, in thousandths; it is written down when the lease is next renewed.
    pub fn progress(&self, permille: u16) {
        self.progress.store(i32::from(permille.min(1_000)), Ordering::Relaxed);
    }

    /// Resolves when an operator has asked for the job's end. A call that ignores it goes on.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether an operator has asked for the job's end.
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
