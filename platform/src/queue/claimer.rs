//! Claims jobs for the free slots, starts their calls, and decides when to claim again.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use domain::CompanyId;
use metrics::gauge;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::circuit::Claimable;
use super::fair::Limit;
use super::job::Claimed;
use super::load::{ClaimError, LoadedClaim, Starting};
use super::shared::{CountedJob, PendingResult, Shared};
use super::store::{self, Offer};
use super::work::{Call, HoldLimit, Work};
use super::{load, renewal};
use crate::pace::{Pace, Rate};
use crate::postgres::{Failure, query};
use crate::task::Stop;
use crate::telemetry::chain;
use crate::{clock, metric};

/// Most jobs of one claim.
const MAX_CLAIMED: usize = 256;
/// Most jobs promoted at once.
const MAX_PROMOTED: i64 = 1_000;
/// Most pairs of company and queue that one sweep reads.
const MAX_SWEPT: i64 = 2_000;
/// The shortest time between two claims, so that one statement claims for several free slots.
const CLAIM_PERIOD: Duration = Duration::from_millis(10);
/// How long before a slot becomes free a job is claimed for it.
const AHEAD: Duration = Duration::from_millis(45);
/// How many companies with an open circuit one claim checks, and how often claims do.
const MAX_CHECKED: usize = 32;
const CHECK_PERIOD: Duration = Duration::from_millis(250);

/// The claiming part of a worker.
pub(super) struct Claimer<W: Work> {
    shared: Arc<Shared<W>>,
    calls: JoinSet<()>,
    results: Option<mpsc::Sender<PendingResult<W>>>,
    /// Companies whose circuit is open: of theirs only probes, and jobs held back too long, are claimed.
    blocked: BTreeSet<CompanyId>,
    checked_to: CompanyId,
    checked_at: Option<Instant>,
    swept_at: Option<Instant>,
    swept_after: CompanyId,
    pace: Pace,
    rate: Rate,
    /// When the next scheduled job is due, as far as is known; queried again when a job is scheduled.
    next_due: Option<Instant>,
    /// Loads one job at a time, because one of a claim could not be loaded.
    one_at_a_time: bool,
}

impl<W: Work> Claimer<W> {
    pub(super) fn new(shared: Arc<Shared<W>>, results: mpsc::Sender<PendingResult<W>>) -> Self {
        Claimer {
            shared,
            calls: JoinSet::new(),
            results: Some(results),
            blocked: BTreeSet::new(),
            checked_to: CompanyId(i64::MIN),
            checked_at: None,
            swept_at: None,
            swept_after: CompanyId(i64::MIN),
            pace: Pace::new(CLAIM_PERIOD),
            rate: Rate::default(),
            next_due: None,
            one_at_a_time: false,
        }
    }

    pub(super) async fn run(&mut self, stop: &Stop) {
        loop {
            let wait = match self.step(stop).await {
                Ok(wait) => wait,
                Err(problem) => {
                    tracing::warn!(queue = %W::QUEUE, error = chain(&problem), "jobs not claimed, will be retried");
                    // Results in memory are committed with shorter pauses than this, so they come first.
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = self.calls.join_next() => log_panic::<W>(ended),
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sweeps, promotes and claims as far as due; returns how long the next step can wait.
    async fn step(&mut self, stop: &Stop) -> Result<Duration, Failure> {
        while let Some(ended) = self.calls.try_join_next() {
            log_panic::<W>(ended);
        }
        let sweep = Duration::from_millis(self.shared.config.sweep_ms);
        self.take_hints();
        if self.swept_at.is_none_or(|it| it.elapsed() >= sweep) {
            self.sweep().await?;
        }
        if self.next_due.is_some_and(|it| it <= clock::instant()) {
            self.promote().await?;
        }
        let claimed = self.claim(stop).await?;
        gauge!(metric::RUNNER_IN_FLIGHT, "processor" => W::QUEUE.name())
            .set((self.shared.config.window - self.shared.slots.available_permits()) as f64);
        let until_sweep = sweep.saturating_sub(self.swept_at.map_or(Duration::ZERO, |it| it.elapsed()));
        let until_due = self.next_due.map_or(sweep, |it| it.saturating_duration_since(clock::instant()));
        let until_blocked = if self.blocked.is_empty() || self.free() == 0 {
            sweep
        } else {
            CHECK_PERIOD.saturating_sub(self.checked_at.map_or(Duration::ZERO, |it| it.elapsed()))
        };
        let more = claimed > 0 && self.free() > 0 && !self.shared.fair().is_empty();
        let idle = until_sweep.min(until_due).min(until_blocked).max(Duration::from_millis(1));
        Ok(if more { Duration::ZERO } else { idle })
    }

    /// Adds the companies that the worker was notified of since the last step.
    fn take_hints(&mut self) {
        let hints = self.shared.wake.take();
        for company in hints.ready {
            self.add(company);
        }
        if hints.scheduled {
            self.next_due = Some(clock::instant());
        }
    }

    fn add(&mut self, company: CompanyId) {
        if self.shared.circuits().open_of(company).is_some() {
            self.blocked.insert(company);
        } else {
            self.blocked.remove(&company);
            self.shared.fair().add(company);
        }
    }

    /// Looks for jobs that other processes enqueued, and for limits that an operator changed.
    async fn sweep(&mut self) -> Result<(), Failure> {
        let client = self.shared.db.get().await?;
        let found = store::ready_companies(&client, W::QUEUE, self.swept_after, MAX_SWEPT).await?;
        let limits = query(
            &client,
            "select company_id, weight::float8, max_running from secretaria.queue_limits where queue = $1",
            &[&W::QUEUE.name()],
        )
        .await?;
        let limit = |row: &tokio_postgres::Row| Limit {
            weight: row.get(1),
            max_running: row.get::<_, Option<i32>>(2).and_then(|it| usize::try_from(it).ok()),
        };
        self.shared.fair().set_limits(limits.iter().map(|row| (CompanyId(row.get(0)), limit(row))).collect());
        let due = store::next_due(&client, W::QUEUE).await?;
        drop(client);
        self.next_due = due.map(|it| clock::instant() + it);
        self.swept_after = found.next_after.unwrap_or(CompanyId(i64::MIN));
        for company in found.companies {
            self.add(company);
        }
        self.shared.circuits().forget_idle(100_000);
        self.swept_at = Some(clock::instant());
        Ok(())
    }

    async fn promote(&mut self) -> Result<(), Failure> {
        loop {
            let mut client = self.shared.db.get().await?;
            let tx = client.transaction().await?;
            store::prefer_indexes(&tx).await?;
            let (moved, companies) = store::promote(&tx, W::QUEUE, MAX_PROMOTED).await?;
            tx.commit().await?;
            companies.into_iter().for_each(|company| self.add(company));
            let due = store::next_due(&client, W::QUEUE).await?;
            self.next_due = due.map(|it| clock::instant() + it);
            // Rows that another process is promoting still look due; that process takes care of them.
            if moved == 0 || due.is_none_or(|it| it > Duration::ZERO) {
                if moved == 0 && due == Some(Duration::ZERO) {
                    self.next_due = Some(clock::instant() + CLAIM_PERIOD);
                }
                return Ok(());
            }
        }
    }

    /// How many jobs may be claimed: one for each slot that is free now or expected to be free when the claim commits.
    fn free(&self) -> usize {
        let ahead = if W::CLAIMS_AHEAD { self.rate.expected(AHEAD).min(self.shared.config.window / 4) } else { 0 };
        let waiting = self.shared.waiting_for_slot.load(Ordering::Relaxed);
        (self.shared.slots.available_permits() + ahead).saturating_sub(waiting)
    }

    /// Claims jobs for the free slots; returns how many.
    async fn claim(&mut self, stop: &Stop) -> Result<usize, Failure> {
        self.rate.measure(self.shared.calls_ended.load(Ordering::Relaxed));
        if self.free() == 0 {
            return Ok(0);
        }
        // After Postgres was unavailable, the leases held here are renewed before anything new is claimed.
        if self.shared.renewal_is_late() {
            renewal::renew(&self.shared).await?;
        }
        if !self.pace.remaining().is_zero() {
            self.pace.until_next().await;
            self.take_hints();
        }
        let free = if self.one_at_a_time { 1 } else { self.free().min(MAX_CLAIMED) };
        let offers = self.offers(free);
        if offers.is_empty() {
            return Ok(0);
        }
        self.pace.begin();
        let mut client = self.shared.db.get().await?;
        let tx = client.transaction().await?;
        match load::claim_and_load(&self.shared, &tx, &offers, free).await {
            Ok(LoadedClaim { claimed, starting, ready, next_due_in }) => {
                tx.commit().await?;
                self.one_at_a_time = false;
                self.update_companies(&offers, &claimed, &starting, free);
                self.start(starting, stop);
                ready.into_iter().for_each(|company| self.add(company));
                if let Some(due) = next_due_in.map(|it| clock::instant() + it) {
                    self.next_due = Some(self.next_due.map_or(due, |it| it.min(due)));
                }
                Ok(claimed.len())
            }
            Err(ClaimError { failure, single }) => {
                drop(tx);
                drop(client);
                match single {
                    Some(claimed) => self.postpone_unloadable(&claimed, &failure).await?,
                    None if failure.blames_the_data() => self.one_at_a_time = true,
                    None => return Err(failure),
                }
                Ok(1)
            }
        }
    }

    /// The companies to claim jobs of, in the order of fairness.
    fn offers(&mut self, free: usize) -> Vec<Offer> {
        let mut offers = self.blocked_offers(free);
        let fair = self.shared.fair().offers(free);
        offers.extend(fair.into_iter().map(|(company, max)| Offer { company, max, before: None }));
        offers
    }

    /// What may be claimed of companies whose circuit is open: a probe, and jobs held back too long.
    fn blocked_offers(&mut self, free: usize) -> Vec<Offer> {
        if self.checked_at.is_some_and(|it| it.elapsed() < CHECK_PERIOD) {
            return Vec::new();
        }
        let now = clock::instant();
        self.checked_at = Some(now);
        let after = (Bound::Excluded(self.checked_to), Bound::Unbounded);
        let blocked: Vec<CompanyId> = self.blocked.range(after).take(MAX_CHECKED).copied().collect();
        self.checked_to =
            blocked.last().copied().filter(|_| blocked.len() == MAX_CHECKED).unwrap_or(CompanyId(i64::MIN));
        let (mut offers, mut closed, mut probes) = (Vec::new(), Vec::new(), BTreeSet::new());
        let circuits = self.shared.circuits();
        for company in blocked {
            match circuits.claimable(company, now) {
                Claimable::Freely => closed.push(company),
                // One probe for all companies of a circuit.
                Claimable::AsProbe if circuits.open_of(company).is_some_and(|it| probes.insert(it.clone())) => {
                    offers.push(Offer { company, max: 1, before: None });
                }
                Claimable::AsProbe => {}
                Claimable::OnlyHeldTooLong { open_for } => {
                    let limit = match self.shared.work.hold_limit() {
                        HoldLimit::SinceDue(limit) => limit,
                        HoldLimit::WhileOpen(limit) if open_for >= limit => limit,
                        HoldLimit::WhileOpen(_) => continue,
                    };
                    let before = clock::now() - jiff::SignedDuration::try_from(limit).unwrap_or_default();
                    offers.push(Offer { company, max: free, before: Some(before) });
                }
            }
        }
        drop(circuits);
        closed.into_iter().for_each(|company| self.add(company));
        offers
    }

    /// Removes companies that had fewer ready jobs than they were offered slots, and moves those with an open circuit to
    /// `blocked`.
    fn update_companies(&mut self, offers: &[Offer], claimed: &[Claimed], starting: &[Starting<W>], free: usize) {
        let mut jobs: HashMap<CompanyId, usize> = HashMap::new();
        for claimed in claimed {
            *jobs.entry(claimed.company()).or_default() += 1;
        }
        let mut fair = self.shared.fair();
        let circuits = self.shared.circuits();
        // A job that ended at once is not in flight: its end would never be counted.
        for starting in starting {
            fair.started(starting.claimed.company(), 1);
        }
        for Offer { company, max, before } in offers {
            let got = jobs.get(company).copied().unwrap_or(0);
            // If all free slots were used, a company that got fewer may still have ready jobs.
            let has_no_more = got < *max && claimed.len() < free;
            if circuits.open_of(*company).is_some() {
                fair.remove(*company);
                if has_no_more && before.is_none() {
                    self.blocked.remove(company);
                } else {
                    self.blocked.insert(*company);
                }
            } else if has_no_more {
                fair.remove(*company);
            }
        }
    }

    fn start(&mut self, starting: Vec<Starting<W>>, stop: &Stop) {
        for Starting { claimed, job, known, permit } in starting {
            let Some(results) = self.results.clone() else { return };
            let shared = Arc::clone(&self.shared);
            let call = Call::new();
            let guard = shared.leases.hold(claimed.lease, call.clone());
            let (slot, stop) = (shared.take_slot(), stop.clone());
            self.calls.spawn(async move {
                let counted = CountedJob { shared: Arc::clone(&shared), company: claimed.company() };
                let Some(slot) = slot.acquire(&stop).await else { return shared.release(&claimed).await };
                let called = async {
                    let began_at = clock::instant();
                    let output = match known {
                        Some(output) => output,
                        None => shared.work.call(&claimed, &job, &call).await,
                    };
                    (began_at, output)
                };
                let (began_at, output) = tokio::select! {
                    called = called => called,
                    () = guard.lost.cancelled() => {
                        let (company_id, job) = (claimed.company().0, claimed.lease.key);
                        return tracing::warn!(queue = %W::QUEUE, company_id, %job, "lease was lost: the call is aborted");
                    }
                };
                permit.report(shared.work.summary(&job, &output).health);
                // While too many results wait for their commit, the slot stays occupied: memory is bounded. The channel is
                // closed only after the last commit.
                let Ok(place) = results.reserve().await else { return };
                drop(slot);
                shared.calls_ended.fetch_add(1, Ordering::Relaxed);
                place.send(PendingResult { claimed, job, output, guard, began_at, _counted: counted });
            });
        }
    }

    /// Postpones a single job that cannot be loaded, in a transaction that does not load it.
    async fn postpone_unloadable(&mut self, claimed: &Claimed, failure: &Failure) -> Result<(), Failure> {
        let shared = &self.shared;
        let mut client = shared.db.get().await?;
        let tx = client.transaction().await?;
        let offer = [Offer { company: claimed.company(), max: 1, before: None }];
        let again = load::claim(shared, &tx, &offer, 1).await?;
        // Another job may be first by now: it is not the one that failed.
        if again.iter().all(|it| it.lease.key == claimed.lease.key) {
            tx.commit().await?;
            drop(client);
            for claimed in &again {
                shared.postpone(claimed, failure).await?;
            }
        }
        self.one_at_a_time = false;
        Ok(())
    }

    /// Waits up to `drain_ms` for running calls to end and their results to be committed.
    pub(super) async fn drain(&mut self, committing: tokio::task::JoinHandle<()>) {
        let results = self.results.take();
        let drain = async {
            while let Some(ended) = self.calls.join_next().await {
                log_panic::<W>(ended);
            }
            drop(results);
            let _ = committing.await;
        };
        let drained = tokio::time::timeout(Duration::from_millis(self.shared.config.drain_ms), drain).await;
        if drained.is_err() {
            let left = self.shared.leases.count();
            tracing::warn!(queue = %W::QUEUE, left, "stopped with jobs still running: their leases will expire and be reclaimed");
        }
    }
}

fn log_panic<W: Work>(ended: Result<(), tokio::task::JoinError>) {
    if let Err(problem) = ended {
        tracing::error!(queue = %W::QUEUE, error = chain(&problem), "a call panicked: its lease will expire and be reclaimed");
    }
}
