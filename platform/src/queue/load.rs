//! The transaction of a claim: jobs get their leases, what their calls need is read, and that they begin is written down.

use std::sync::Arc;
use std::time::Duration;

use domain::CompanyId;

use super::circuit::Admission;
use super::job::{Claimed, Ending, Lease};
use super::store::{self, Ended, Offer};
use super::work::{HoldLimit, Loaded, Work};
use super::worker::{Admitted, Shared};
use crate::clock;
use crate::postgres::{Failure, Transaction};

/// A job about to be called, or to be finished without a call.
pub(super) struct Starting<W: Work> {
    pub(super) claimed: Claimed,
    pub(super) job: W::Job,
    pub(super) known: Option<W::Output>,
    pub(super) admitted: Admitted<W>,
}

/// What a claim came to.
pub(super) struct Begun<W: Work> {
    /// All jobs that were claimed, those that ended at once included.
    pub(super) claimed: Vec<Claimed>,
    /// Those that are called, or finished without a call.
    pub(super) starting: Vec<Starting<W>>,
    /// Whose jobs became ready by those that ended.
    pub(super) ready: Vec<CompanyId>,
    /// How soon the first of those that are held back is due again.
    pub(super) held_for: Option<Duration>,
}

impl<W: Work> Begun<W> {
    fn nothing() -> Self {
        Begun { claimed: Vec::new(), starting: Vec::new(), ready: Vec::new(), held_for: None }
    }
}

/// A claim that failed; `alone` is its only job, where that is what could not be loaded.
pub(super) struct Unloadable {
    pub(super) failure: Failure,
    pub(super) alone: Option<Claimed>,
}

impl From<Failure> for Unloadable {
    fn from(failure: Failure) -> Self {
        Unloadable { failure, alone: None }
    }
}

/// Claims at most `free` jobs and loads them.
pub(super) async fn claim_and_load<W: Work>(
    shared: &Arc<Shared<W>>,
    tx: &Transaction<'_>,
    offers: &[Offer],
    free: usize,
) -> Result<Begun<W>, Unloadable> {
    let claimed = claim(shared, tx, offers, free).await?;
    if claimed.is_empty() {
        return Ok(Begun::nothing());
    }
    match load(shared, tx, &claimed).await {
        Ok(begun) => Ok(Begun { claimed, ..begun }),
        Err(failure) => {
            let alone = claimed.first().filter(|_| claimed.len() == 1 && failure.blames_the_data()).cloned();
            Err(Unloadable { failure, alone })
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

/// Reads what the calls need, leaves out what is held back or gone, and writes down that the others begin.
async fn load<W: Work>(
    shared: &Arc<Shared<W>>,
    tx: &Transaction<'_>,
    claimed: &[Claimed],
) -> Result<Begun<W>, Failure> {
    let mut begun = Begun { starting: Vec::with_capacity(claimed.len()), ..Begun::nothing() };
    let starting = &mut begun.starting;
    let mut ended = Vec::new();
    for (claimed, loaded) in claimed.iter().zip(shared.work.load(tx, claimed).await?) {
        match loaded {
            Loaded::Gone => ended.push(Ended { job: claimed, ending: Ending::Done }),
            Loaded::Known(job, output) => {
                let admitted = Admitted::new(shared, None);
                starting.push(Starting { claimed: claimed.clone(), job, known: Some(output), admitted });
            }
            Loaded::Call(job) => match admit(shared, claimed, job) {
                Ok(begins) => starting.push(begins),
                Err(wait) => {
                    begun.held_for = Some(begun.held_for.map_or(wait, |it| it.min(wait)));
                    ended.push(Ended { job: claimed, ending: Ending::HeldBack(wait) });
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

/// Asks the job's circuit; says how long it is held back otherwise.
fn admit<W: Work>(shared: &Arc<Shared<W>>, claimed: &Claimed, job: W::Job) -> Result<Starting<W>, Duration> {
    let circuit = shared.work.circuit(&job);
    let starts = |job, known, circuit| {
        Ok(Starting { claimed: claimed.clone(), job, known, admitted: Admitted::new(shared, circuit) })
    };
    let Some(circuit) = circuit else { return starts(job, None, None) };
    let now = clock::instant();
    let (admission, open_for) = {
        let mut circuits = shared.circuits();
        (circuits.admit(&circuit, claimed.company(), now), circuits.open_for(&circuit, now))
    };
    match (admission, shared.work.hold_limit(), open_for) {
        (Admission::Pass, ..) => starts(job, None, Some(circuit)),
        // Full, not open: a slot comes free soon.
        (Admission::HeldBack(wait), _, None) => Err(wait),
        (Admission::HeldBack(wait), limit, Some(open_for)) => {
            let left = match limit {
                HoldLimit::SinceDue(limit) => limit.saturating_sub(claimed.late),
                HoldLimit::WhileOpen(limit) => limit.saturating_sub(claimed.late.min(open_for)),
            };
            if left.is_zero() {
                let output = shared.work.held_too_long(claimed, &job);
                return starts(job, Some(output), None);
            }
            Err(wait.min(left))
        }
    }
}
