//! What the tasks of a worker share: its slots, its leases, the order of fairness and the circuits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::CompanyId;
use metrics::{counter, gauge, histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::circuit::{CallKind, Circuit, CircuitChange, Circuits, Health};
use super::fair::FairOrder;
use super::job::{Claimed, Ending};
use super::leases::{Guard, Leases};
use super::store::{self, EndedAttempt};
use super::work::{Performed, Work};
use super::{Config, Wake};
use crate::postgres::{Db, Failure};
use crate::task::Stop;
use crate::telemetry::chain;
use crate::{clock, metric};

/// The longest a job that was claimed ahead waits for its slot; then it is released.
const MAX_AHEAD: Duration = Duration::from_secs(1);
/// How long a job is postponed that Postgres refuses to load or to end.
const POSTPONE_FOR: Duration = Duration::from_secs(30);
/// After how many claims such a job is dead-lettered.
const MAX_CLAIMS: i32 = 10;

/// What the tasks of a worker share.
pub(super) struct Shared<W: Work> {
    pub(super) work: W,
    pub(super) db: Db,
    pub(super) config: Config,
    pub(super) instance: String,
    pub(super) wake: Wake,
    pub(super) leases: Leases,
    pub(super) slots: Arc<Semaphore>,
    pub(super) calls_ended: AtomicUsize,
    /// Jobs that were claimed ahead and wait for a slot.
    pub(super) waiting_for_slot: AtomicUsize,
    fair: Mutex<FairOrder>,
    circuits: Mutex<Circuits>,
    began_at: Instant,
    renewed_ms: AtomicU64,
}

/// A result that waits for its commit; its lease is held until then, and its slot is free again.
pub(super) struct PendingResult<W: Work> {
    pub(super) claimed: Claimed,
    pub(super) job: W::Job,
    pub(super) output: W::Output,
    pub(super) guard: Guard,
    pub(super) began_at: Instant,
    pub(super) _counted: CountedJob<W>,
}

pub(super) enum Slot<W: Work> {
    Acquired(OwnedSemaphorePermit),
    /// The job was claimed ahead of its slot.
    Awaited(SlotWaiter<W>),
}

impl<W: Work> Slot<W> {
    /// Waits for the slot, at most [`MAX_AHEAD`]; `None` after that, or if the worker stops.
    pub(super) async fn acquire(self, stop: &Stop) -> Option<OwnedSemaphorePermit> {
        let waiting = match self {
            Slot::Acquired(slot) => return Some(slot),
            Slot::Awaited(waiting) => waiting,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            slot = Arc::clone(&waiting.0.slots).acquire_owned() => slot.ok(),
            () = tokio::time::sleep(MAX_AHEAD) => None,
        }
    }
}

/// Counts a job that was claimed ahead of its slot, until dropped.
pub(super) struct SlotWaiter<W: Work>(Arc<Shared<W>>);

impl<W: Work> Drop for SlotWaiter<W> {
    fn drop(&mut self) {
        self.0.waiting_for_slot.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a job in flight for fairness, until dropped.
pub(super) struct CountedJob<W: Work> {
    pub(super) shared: Arc<Shared<W>>,
    pub(super) company: CompanyId,
}

impl<W: Work> Drop for CountedJob<W> {
    fn drop(&mut self) {
        let was_capped = self.shared.fair().ended(self.company);
        if was_capped {
            self.shared.wake.ready([self.company]);
        }
    }
}

/// Permission of a circuit to make a call. If it is dropped without a report, the circuit gets [`Health::Unclear`].
pub(super) struct CallPermit<W: Work> {
    shared: Arc<Shared<W>>,
    circuit: Option<(Circuit, CallKind)>,
}

impl<W: Work> CallPermit<W> {
    pub(super) fn new(shared: &Arc<Shared<W>>, circuit: Option<(Circuit, CallKind)>) -> Self {
        CallPermit { shared: Arc::clone(shared), circuit }
    }

    pub(super) fn report(mut self, health: Health) {
        if let Some((circuit, kind)) = self.circuit.take() {
            self.shared.report_health(&circuit, kind, health);
        }
    }
}

impl<W: Work> Drop for CallPermit<W> {
    fn drop(&mut self) {
        if let Some((circuit, kind)) = self.circuit.take() {
            self.shared.report_health(&circuit, kind, Health::Unclear);
        }
    }
}

impl<W: Work> PendingResult<W> {
    pub(super) fn performed(&self) -> Performed<'_, W::Job, W::Output> {
        Performed { claimed: &self.claimed, job: &self.job, output: &self.output }
    }
}

impl<W: Work> Shared<W> {
    pub(super) fn new(work: W, db: Db, config: Config, instance: String, wake: Wake) -> Self {
        Shared {
            work,
            db,
            config,
            instance,
            wake,
            leases: Leases::default(),
            fair: Mutex::new(FairOrder::new(config.company_cap())),
            circuits: Mutex::new(Circuits::new(config.circuit, config.provider_cap())),
            slots: Arc::new(Semaphore::new(config.window)),
            calls_ended: AtomicUsize::new(0),
            waiting_for_slot: AtomicUsize::new(0),
            began_at: clock::instant(),
            renewed_ms: AtomicU64::new(0),
        }
    }

    /// A free slot, or a wait for the next one.
    pub(super) fn take_slot(self: &Arc<Self>) -> Slot<W> {
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => Slot::Acquired(slot),
            Err(_) => {
                self.waiting_for_slot.fetch_add(1, Ordering::Relaxed);
                Slot::Awaited(SlotWaiter(Arc::clone(self)))
            }
        }
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.config.lease_ms)
    }

    pub(super) fn renewal_period(&self) -> Duration {
        Duration::from_millis((self.config.lease_ms / 3).max(50))
    }

    /// All leases held here were renewed just now.
    pub(super) fn renewed(&self) {
        let now = u64::try_from(self.began_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.renewed_ms.store(now, Ordering::Relaxed);
    }

    /// Whether leases held here may look expired because renewals failed while Postgres was unavailable.
    pub(super) fn renewal_is_late(&self) -> bool {
        let renewed = Duration::from_millis(self.renewed_ms.load(Ordering::Relaxed));
        self.began_at.elapsed() > renewed + self.renewal_period() * 2
    }

    pub(super) fn fair(&self) -> MutexGuard<'_, FairOrder> {
        self.fair.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn circuits(&self) -> MutexGuard<'_, Circuits> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Postpones a job that Postgres refuses to load or to end; after enough attempts it is dead-lettered.
    pub(super) async fn postpone(&self, claimed: &Claimed, problem: &Failure) -> Result<(), Failure> {
        let error = chain(problem);
        let ending = if claimed.attempts < MAX_CLAIMS {
            Ending::Retry(POSTPONE_FOR)
        } else {
            Ending::DeadLetter { cause: "refused_by_database", detail: error.clone() }
        };
        let follows = if claimed.attempts < MAX_CLAIMS { "it is retried later" } else { "it is dead-lettered" };
        tracing::error!(
            queue = %W::QUEUE, company_id = claimed.company().0, job = %claimed.lease.key, attempts = claimed.attempts,
            error, "postgres refuses this job: {follows}"
        );
        self.end(claimed, ending).await
    }

    /// Releases a job that was claimed and not begun; if Postgres does not accept that, its lease expires.
    pub(super) async fn release(&self, claimed: &Claimed) {
        if let Err(problem) = self.end(claimed, Ending::HeldBack(Duration::ZERO)).await {
            let (company_id, job) = (claimed.company().0, claimed.lease.key);
            tracing::warn!(queue = %W::QUEUE, company_id, %job, error = chain(&problem), "a job was not released: its lease will expire and be reclaimed");
        }
    }

    async fn end(&self, claimed: &Claimed, ending: Ending) -> Result<(), Failure> {
        let mut client = self.db.get().await?;
        let tx = client.transaction().await?;
        store::prefer_indexes(&tx).await?;
        let mut companies = Vec::new();
        if !store::release(&tx, W::QUEUE, &[claimed.lease]).await?.is_empty() {
            companies = store::settle(&tx, W::QUEUE, &[EndedAttempt { job: claimed, ending }]).await?;
        }
        tx.commit().await?;
        self.wake.enqueued(companies);
        Ok(())
    }

    /// Log line and metrics of a result; `ending` is `None` if its lease was lost.
    pub(super) fn report(&self, result: &PendingResult<W>, ending: Option<&Ending>) {
        let claimed = &result.claimed;
        let (queue, company_id, job) = (W::QUEUE.name(), claimed.company().0, claimed.lease.key);
        let took = result.began_at.elapsed();
        histogram!(metric::TASK_LATENCY, "task" => queue).record(took.as_secs_f64());
        let Some(ending) = ending else {
            counter!(metric::JOBS_ENDED, "queue" => queue, "ending" => "lease_lost").increment(1);
            return tracing::warn!(queue, company_id, %job, "lease was lost: the result is discarded");
        };
        let summary = self.work.summary(&result.job, &result.output);
        counter!(metric::JOBS_ENDED, "queue" => queue, "ending" => ending.as_str()).increment(1);
        if let Some(class) = summary.class {
            counter!(metric::JOB_ERRORS, "queue" => queue, "class" => class).increment(1);
        }
        let (attempts, correlation_id) = (claimed.attempts, claimed.correlation_id());
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (result_name, class) = (summary.result, summary.class);
        tracing::info!(
            queue,
            company_id,
            %job,
            attempts,
            correlation_id,
            duration_ms,
            result = result_name,
            class,
            ending = ending.as_str(),
            "job result committed"
        );
        self.work.committed(&result.performed(), ending);
    }

    fn report_health(&self, circuit: &Circuit, kind: CallKind, health: Health) {
        let change = self.circuits().report(circuit, kind, health, clock::instant());
        let (queue, provider) = (W::QUEUE.name(), circuit.provider);
        match change {
            Some(CircuitChange::Opened) => {
                tracing::warn!(queue, provider, credential = circuit.credential, "circuit opened: jobs are held back");
            }
            Some(CircuitChange::Closed) => {
                tracing::info!(queue, provider, credential = circuit.credential, "circuit closed");
                let companies = self.circuits().companies(circuit);
                self.wake.ready(companies);
            }
            None => return,
        }
        open_circuits_now(queue, self.circuits().open_by_provider());
    }
}

/// Open circuits of all workers of this process, by queue and provider.
static OPEN: Mutex<Vec<(&'static str, &'static str, usize)>> = Mutex::new(Vec::new());

pub(super) fn open_circuits_now(queue: &'static str, open: HashMap<&'static str, usize>) {
    for (provider, circuits) in &open {
        gauge!(metric::CIRCUITS_OPEN, "queue" => queue, "provider" => *provider).set(*circuits as f64);
    }
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(of, ..)| *of != queue);
    all.extend(open.into_iter().map(|(provider, circuits)| (queue, provider, circuits)));
}

/// How many circuits of this process's workers are open.
pub fn open_circuits() -> usize {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|it| it.2).sum()
}
