//! Work whose jobs do what their bodies say.
//!
//! `done`, `fail` (while the provider is down), `wait` (until the test lets it end), `hang_once`, `panic_once`,
//! `cancellable`, `slow`, `refused`, `refused_again`, `finish_panics_once`, `gone`, `known`, `known_refused`, `unloadable`, and `overtaken`,
//! which cannot be loaded either, and at that moment another job becomes the first of its company.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::*;
use crate::postgres::{Failure, execute, query};
use crate::queue::{Call, Circuit, Health, HoldLimit, Loaded, Performed, Summary, Work};

/// What the tests observe and control; shared by all workers of a test.
#[derive(Clone)]
pub(super) struct Script(Arc<Inner>);

struct Inner {
    gate: Semaphore,
    is_down: AtomicBool,
    was_overtaken: AtomicBool,
    has_circuit: bool,
    hold_limit: HoldLimit,
    /// The result of calls whose lease expired; with `None` they are made again.
    expired_output: Option<&'static str>,
    calls: Mutex<Vec<u128>>,
    /// Results that were reported as committed.
    committed: Mutex<Vec<(u128, &'static str)>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    aborted: AtomicUsize,
}

impl Script {
    pub(super) fn new() -> Self {
        Self::with(false, HoldLimit::SinceDue(Duration::from_secs(300)))
    }

    /// Each company has a provider of its own.
    pub(super) fn with_circuits(hold_limit: HoldLimit) -> Self {
        Self::with(true, hold_limit)
    }

    /// Calls whose lease expired have the result `expired` and are not made again.
    pub(super) fn with_result_for_expired() -> Self {
        Self::of(false, HoldLimit::SinceDue(Duration::from_secs(300)), Some("expired"))
    }

    fn with(has_circuit: bool, hold_limit: HoldLimit) -> Self {
        Self::of(has_circuit, hold_limit, None)
    }

    fn of(has_circuit: bool, hold_limit: HoldLimit, expired_output: Option<&'static str>) -> Self {
        Script(Arc::new(Inner {
            expired_output,
            committed: Mutex::default(),
            gate: Semaphore::new(0),
            is_down: AtomicBool::new(false),
            was_overtaken: AtomicBool::new(false),
            has_circuit,
            hold_limit,
            calls: Mutex::default(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            aborted: AtomicUsize::new(0),
        }))
    }

    /// Lets so many of the calls that wait end.
    pub(super) fn open(&self, calls: usize) {
        self.0.gate.add_permits(calls);
    }

    pub(super) fn provider_is_down(&self, is_down: bool) {
        self.0.is_down.store(is_down, Ordering::SeqCst);
    }

    pub(super) fn calls(&self) -> Vec<u128> {
        self.0.calls.lock().unwrap().clone()
    }

    /// The results that were committed, by number of their jobs.
    pub(super) fn committed(&self) -> Vec<(u128, &'static str)> {
        let mut committed = self.0.committed.lock().unwrap().clone();
        committed.sort_unstable();
        committed
    }

    pub(super) fn most_running(&self) -> usize {
        self.0.most_running.load(Ordering::SeqCst)
    }

    /// Waits until so many calls were dropped before their end.
    pub(super) async fn until_aborted(&self, calls: usize) {
        self.until(|it| it.aborted.load(Ordering::SeqCst) == calls).await;
    }

    /// Waits until so many calls were begun.
    pub(super) async fn until_called(&self, calls: usize) {
        self.until(|it| it.calls.lock().unwrap().len() >= calls).await;
    }

    /// Waits until so many calls are running.
    pub(super) async fn until_running(&self, calls: usize) {
        self.until(|it| it.running.load(Ordering::SeqCst) == calls).await;
    }

    async fn until(&self, condition: impl Fn(&Inner) -> bool) {
        let reached = async {
            while !condition(&self.0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached).await.unwrap();
    }
}

/// A running call, and whether it completed.
struct RunningCall<'a> {
    script: &'a Inner,
    ended: bool,
}

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        self.script.running.fetch_sub(1, Ordering::SeqCst);
        if !self.ended {
            self.script.aborted.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The work of one worker.
pub(super) struct Scripted {
    script: Script,
    db: Db,
}

impl Scripted {
    pub(super) fn new(script: &Script, db: &Db) -> Self {
        Scripted { script: script.clone(), db: db.clone() }
    }

    /// Enqueues another job of the company that comes first, as another process would.
    async fn enqueue_first(&self) {
        let first = NewJob { priority: -1, ..super::job(1, 99, "done") };
        enqueue(&self.db, &[first]).await;
    }
}

pub(super) struct Task {
    does: String,
    company: CompanyId,
}

impl Work for Scripted {
    type Job = Task;
    type Output = &'static str;

    const CLAIMS_AHEAD: bool = true;
    const QUEUE: Queue = super::QUEUE;

    async fn load(
        &self,
        tx: &Transaction<'_>,
        claimed: &[Claimed],
    ) -> Result<Vec<Loaded<Task, &'static str>>, Failure> {
        let (mut loaded, claimed_now) = (Vec::new(), claimed.len());
        for claimed in claimed {
            let does = claimed.body["does"].as_str().unwrap_or("done").to_owned();
            let is_alone = claimed.attempts == 1 && does == "overtaken" && claimed_now == 1;
            let task = Task { does, company: claimed.company() };
            loaded.push(match task.does.as_str() {
                "gone" => Loaded::Gone,
                "known" => Loaded::Known(task, "known"),
                "known_refused" => Loaded::Known(task, "refused_again"),
                "unloadable" | "overtaken" => {
                    if is_alone && !self.script.0.was_overtaken.swap(true, Ordering::SeqCst) {
                        self.enqueue_first().await;
                    }
                    query(tx, "select 1 / $1::integer", &[&0]).await?;
                    Loaded::Gone
                }
                _ => Loaded::Call(task),
            });
        }
        Ok(loaded)
    }

    fn circuit(&self, job: &Task) -> Option<Circuit> {
        self.script.0.has_circuit.then(|| Circuit { provider: "scripted", credential: job.company.to_string() })
    }

    fn hold_limit(&self) -> HoldLimit {
        self.script.0.hold_limit
    }

    fn held_too_long(&self, _claimed: &Claimed, _job: &Task) -> &'static str {
        "held_too_long"
    }

    async fn call(&self, claimed: &Claimed, job: &Task, call: &Call) -> &'static str {
        let script = &*self.script.0;
        script.calls.lock().unwrap().push(claimed.lease.key.as_u128());
        let running = script.running.fetch_add(1, Ordering::SeqCst) + 1;
        script.most_running.fetch_max(running, Ordering::SeqCst);
        let mut running_call = RunningCall { script, ended: false };
        let is_first = claimed.attempts == 1;
        let output = match job.does.as_str() {
            "wait" => {
                script.gate.acquire().await.unwrap().forget();
                "done"
            }
            "refused" => {
                script.gate.acquire().await.unwrap().forget();
                "refused"
            }
            "refused_again" => "refused_again",
            "hang_once" if is_first => std::future::pending().await,
            "panic_once" if is_first => panic!("scripted"),
            "finish_panics_once" if is_first => "finish_panics",
            "cancellable" => {
                call.progress(420);
                call.cancelled().await;
                "cancelled"
            }
            "fail" if script.is_down.load(Ordering::SeqCst) => "failed",
            // Long enough for others to begin meanwhile.
            "slow" => {
                tokio::task::yield_now().await;
                self.db.ping().await.unwrap();
                "done"
            }
            _ => "done",
        };
        running_call.ended = true;
        output
    }

    async fn finish(
        &self,
        tx: &Transaction<'_>,
        performed: &[Performed<'_, Task, &'static str>],
    ) -> Result<Vec<Ending>, Failure> {
        let mut endings = Vec::new();
        for Performed { claimed, output, .. } in performed {
            assert_ne!(**output, "finish_panics");
            if **output == "failed" {
                endings.push(Ending::Retry(Duration::ZERO));
                continue;
            }
            execute(
                tx,
                "insert into secretaria.written
                 select $1, $2, $3, $4, extract(epoch from clock_timestamp() - created_at)::float8
                 from secretaria.jobs
                 where company_id = $1 and queue = $5 and job_key = $2",
                &[&claimed.company().0, &claimed.lease.key, output, &claimed.attempts, &Self::QUEUE.name()],
            )
            .await?;
            endings.push(Ending::Done);
        }
        Ok(endings)
    }

    fn refused(&self, performed: &Performed<'_, Task, &'static str>, _failure: &Failure) -> Option<&'static str> {
        Some(if *performed.output == "refused_again" { "refused_again" } else { "instead" })
    }

    fn expired_output(&self) -> Option<&'static str> {
        self.script.0.expired_output
    }

    fn committed(&self, performed: &Performed<'_, Task, &'static str>, _ending: &Ending) {
        let committed = (performed.claimed.lease.key.as_u128(), *performed.output);
        self.script.0.committed.lock().unwrap().push(committed);
    }

    fn summary(&self, _job: &Task, output: &&'static str) -> Summary {
        let health = if *output == "failed" { Health::Failing } else { Health::Healthy };
        Summary { result: output, class: None, health }
    }
}
