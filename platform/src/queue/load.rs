//! The transaction of a claim: leases jobs, reads what their calls need, and lets the processor record that calls begin.

use std::sync::Arc;
use std::time::Duration;

use domain::CompanyId;

use super::circuit::CircuitDecision;
use super::job::{Claimed, Ending, Lease};
use super::shared::{CallPermit, Shared};
use super::store::{self, EndedAttempt, Offer};
use super::work::{HoldLimit, Loaded, Work};
use crate::clock;
use crate::postgres::{Failure, Transaction};

/// A job whose call is about to be made, or whose result is known without a call.
pub(super) struct Starting<W: Work> {
    pub(super) claimed: Claimed,
    pub(super) job: W::Job,
    pub(super) known: Option<W::Output>,
    pub(super) permit: CallPermit<W>,
}

/// The result of a claim.
pub(super) struct LoadedClaim<W: Work> {
    /// All jobs that were claimed, including those that ended at once.
    pub(super) claimed: Vec<Claimed>,
    /// Those whose call is made, or whose result is known.
    pub(super) starting: Vec<Starting<W>>,
    /// Companies whose jobs became ready because others ended.
    pub(super) ready: Vec<CompanyId>,
    /// How long until the first job that was held back is due again.
    pub(super) next_due_in: Option<Duration>,
}

impl<W: Work> LoadedClaim<W> {
    fn empty() -> Self {
        LoadedClaim { claimed: Vec::new(), starting: Vec::new(), ready: Vec::new(), next_due_in: None }
    }
}

/// A claim that failed; `single` is its only job, if loading that job failed.
pub(super) struct ClaimError {
    pub(super) failure: Failure,
    pub(super) single: Option<Claimed>,
}

impl From<Failure> for ClaimError {
    fn from(failure: Failure) -> Self {
        ClaimError { failure, single: None }
    }
}

/// Claims at most `free` jobs and loads them.
pub(super) async fn claim_and_load<W: Work>(
    shared: &Arc<Shared<W>>,
    tx: &Transaction<'_>,
    offers: &[Offer],
    free: usize,
) -> Result<LoadedClaim<W>, ClaimError> {
    let claimed = claim(shared, tx, offers, free).await?;
    if claimed.is_empty() {
        return Ok(LoadedClaim::empty());
    }
    match load(shared, tx, &claimed).await {
        Ok(begun) => Ok(LoadedClaim { claimed, ..begun }),
        Err(failure) => {
            let single = claimed.first().filter(|_| claimed.len() == 1 && failure.blames_the_data()).cloned();
            Err(ClaimError { failure, single })
        }
    }
}

/// Claims at most `free` jobs.
pub(super) async fn claim<W: Work>(
    shared: &Shared<W>,
    tx: &Transaction<'_>,
    offers: &[Offer],
    free: usize,
) -> Result<Vec<Claimed>, Failure> {
    let cap = shared.config.company_cap();
    store::prefer_indexes(tx).await?;
    if shared.fair().has_caps() {
        store::lock_capped(tx, W::QUEUE, offers, cap != usize::MAX).await?;
    }
    Ok(store::claim(tx, W::QUEUE, offers, free, shared.lease(), &shared.instance, cap).await?)
}

/// Reads what the calls need, ends jobs that are held back or gone, and records that the calls of the others begin.
async fn load<W: Work>(
    shared: &Arc<Shared<W>>,
    tx: &Transaction<'_>,
    claimed: &[Claimed],
) -> Result<LoadedClaim<W>, Failure> {
    let mut begun = LoadedClaim { starting: Vec::with_capacity(claimed.len()), ..LoadedClaim::empty() };
    let starting = &mut begun.starting;
    let mut ended = Vec::new();
    for (claimed, loaded) in claimed.iter().zip(shared.work.load(tx, claimed).await?) {
        match loaded {
            Loaded::Gone => ended.push(EndedAttempt { job: claimed, ending: Ending::Done }),
            Loaded::Known(job, output) => {
                let permit = CallPermit::new(shared, None);
                starting.push(Starting { claimed: claimed.clone(), job, known: Some(output), permit });
            }
            Loaded::Call(job) => match start(shared, claimed, job) {
                Ok(begins) => starting.push(begins),
                Err(wait) => {
                    begun.next_due_in = Some(begun.next_due_in.map_or(wait, |it| it.min(wait)));
                    ended.push(EndedAttempt { job: claimed, ending: Ending::HeldBack(wait) });
                }
            },
        }
    }
    let beginning = starting.iter_mut().filter(|it| it.known.is_none());
    let mut beginning: Vec<(&Claimed, &mut W::Job)> = beginning.map(|it| (&it.claimed, &mut it.job)).collect();
    if !beginning.is_empty() {
        shared.work.begin(tx, &mut beginning).await?;
    }
    if !ended.is_empty() {
        let leases: Vec<Lease> = ended.iter().map(|it| it.job.lease).collect();
        store::release(tx, W::QUEUE, &leases).await?;
        begun.ready = store::settle(tx, W::QUEUE, &ended).await?;
    }
    Ok(begun)
}

/// Starts the job if its circuit lets it pass; otherwise returns how long it is held back.
fn start<W: Work>(shared: &Arc<Shared<W>>, claimed: &Claimed, job: W::Job) -> Result<Starting<W>, Duration> {
    let circuit = shared.work.circuit(&job);
    let starts = |job, known, circuit| {
        Ok(Starting { claimed: claimed.clone(), job, known, permit: CallPermit::new(shared, circuit) })
    };
    let Some(circuit) = circuit else { return starts(job, None, None) };
    let now = clock::instant();
    let (decision, open_for) = {
        let mut circuits = shared.circuits();
        (circuits.request(&circuit, claimed.company(), now), circuits.open_for(&circuit, now))
    };
    match (decision, shared.work.hold_limit(), open_for) {
        (CircuitDecision::Call(kind), ..) => starts(job, None, Some((circuit, kind))),
        // Not open, but at its cap: a call ends soon.
        (CircuitDecision::HeldBack(wait), _, None) => Err(wait),
        (CircuitDecision::HeldBack(wait), limit, Some(open_for)) => {
            let left = match limit {
                HoldLimit::SinceDue(limit) => limit.saturating_sub(claimed.overdue),
                HoldLimit::WhileOpen(limit) => limit.saturating_sub(claimed.overdue.min(open_for)),
            };
            if left.is_zero() {
                let output = shared.work.held_too_long(claimed, &job);
                return starts(job, Some(output), None);
            }
            Err(wait.min(left))
        }
    }
}
