//! The job that computes dirty days, enqueued at regular times.

use std::collections::BTreeSet;
use std::time::Duration;

use metrics::{counter, histogram};
use platform::postgres::{Failure, Transaction};
use platform::queue::{Call, Claimed, Ending, Health, Loaded, LoadedJobs, Performed, Queue, Summary, Work};
use platform::task::Stop;
use platform::telemetry::chain;
use platform::{clock, metric};

use super::{QUEUE, Rollups};
use crate::lake::Error;
use crate::lake::compaction::{self, MIN_FILES};
use crate::lake::manifest::DirtyDay;

/// How long a job goes on with further days; the rest is for the next one.
const MAX_DURATION: Duration = Duration::from_secs(60);

/// How often a running computation asks whether it was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(100);

pub(super) struct Refresh {
    pub(super) rollups: Rollups,
}

/// What a job did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refreshed {
    pub(super) computed: usize,
    /// They stay dirty.
    pub(super) failed: usize,
}

impl Refresh {
    /// Computes the dirty days, the latest first. After each one it looks again, so that today does not wait for the repair of
    /// many earlier days. A day that fails is left dirty and does not keep the others waiting.
    pub(super) async fn refresh(&self, call: &Call) -> Refreshed {
        let (mut refreshed, mut failed) = (Refreshed::default(), BTreeSet::new());
        if let Err(problem) = compaction::delete_replaced(&self.rollups.lake, &self.rollups.db).await {
            tracing::warn!(error = chain(&problem), "replaced files of the lake are not deleted yet");
        }
        let began = clock::instant();
        while began.elapsed() < MAX_DURATION {
            let dirty = match self.rollups.dirty(1 + failed.len() as i64).await {
                Ok(dirty) => dirty,
                Err(problem) => {
                    tracing::warn!(error = chain(&problem), "rollups wait for postgres");
                    break;
                }
            };
            let Some(day) = dirty.into_iter().find(|it| !failed.contains(&it.day)) else { break };
            match self.compute(day, call).await {
                Ok(()) => refreshed.computed += 1,
                Err(Error::Cancelled) => break,
                Err(problem) => {
                    failed.insert(day.day);
                    refreshed.failed += 1;
                    counter!(metric::ROLLUP_DAYS, "outcome" => "failed").increment(1);
                    tracing::error!(day = %day.day, error = chain(&problem), "rollups of a day cannot be computed, they stay as they are");
                }
            }
        }
        refreshed
    }

    async fn compute(&self, day: DirtyDay, call: &Call) -> Result<(), Error> {
        let (began, cancelled) = (clock::instant(), Stop::new());
        let computing = async {
            match self.rollups.compact(day.day, MIN_FILES, &cancelled).await {
                Ok(replaced) => counter!(metric::LAKE_FILES_MERGED).increment(replaced as u64),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                // The day can be computed from small files too.
                Err(problem) => {
                    tracing::warn!(day = %day.day, error = chain(&problem), "small files of a day are not merged");
                }
            }
            self.rollups.compute(day, &cancelled).await
        };
        tokio::pin!(computing);
        let computed = loop {
            tokio::select! {
                computed = &mut computing => break computed?,
                () = tokio::time::sleep(CANCEL_CHECK) => if call.is_cancelled() { cancelled.cancel() },
            }
        };
        let took = began.elapsed();
        histogram!(metric::ROLLUP_LATENCY).record(took.as_secs_f64());
        counter!(metric::ROLLUP_DAYS, "outcome" => if computed.changed.is_some() { "computed" } else { "superseded" })
            .increment(1);
        tracing::debug!(
            day = %day.day, files = computed.files, events = computed.events,
            changed = computed.changed.map(|it| it.changed), duration_ms = took.as_millis() as u64, "day computed"
        );
        Ok(())
    }
}

impl Work for Refresh {
    type Job = ();
    type Output = Refreshed;

    const QUEUE: Queue = QUEUE;

    async fn load(&self, _: &Transaction<'_>, claimed: &[Claimed]) -> Result<LoadedJobs<(), Refreshed>, Failure> {
        Ok(claimed.iter().map(|_| Loaded::Call(())).collect())
    }

    fn held_too_long(&self, _: &Claimed, (): &()) -> Refreshed {
        Refreshed::default()
    }

    async fn call(&self, _: &Claimed, (): &(), call: &Call) -> Refreshed {
        self.refresh(call).await
    }

    /// A day that failed stays dirty, so that the next job tries it again.
    async fn finish(
        &self,
        _: &Transaction<'_>,
        performed: &[Performed<'_, (), Refreshed>],
    ) -> Result<Vec<Ending>, Failure> {
        Ok(vec![Ending::Done; performed.len()])
    }

    fn summary(&self, (): &(), refreshed: &Refreshed) -> Summary {
        let class = (refreshed.failed > 0).then_some("day_failed");
        Summary { result: if class.is_none() { "refreshed" } else { "failed" }, class, health: Health::Unclear }
    }
}
