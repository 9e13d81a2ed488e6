//! Reclaims leases that expired in any process, and those of a previous run of this one.

use std::sync::Arc;
use std::time::Duration;

use domain::CompanyId;

use super::job::{Claimed, Ending, Lease};
use super::shared::Shared;
use super::store::{self, EndedAttempt};
use super::work::{self, Loaded, Performed, Work};
use crate::postgres::{Failure, Transaction};
use crate::task::Stop;
use crate::telemetry::chain;

/// Most leases reclaimed in one transaction.
const MAX_RECLAIMED: i64 = 100;

/// Reclaims expired leases until stopped.
///
/// After renewals of this worker have failed, its own leases may look expired: they are renewed first.
pub(super) async fn keep_reclaiming<W: Work>(shared: Arc<Shared<W>>, stop: Stop) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(shared.renewal_period()) => {}
        }
        if shared.renewal_is_late() {
            continue;
        }
        loop {
            match reclaim(&shared).await {
                Ok(0) => break,
                Ok(jobs) => tracing::warn!(queue = %W::QUEUE, jobs, "reclaimed expired leases"),
                Err(problem) => {
                    tracing::warn!(queue = %W::QUEUE, error = chain(&problem), "expired leases wait for postgres");
                    break;
                }
            }
        }
    }
}

/// Ends attempts whose lease has expired; returns how many.
pub(super) async fn reclaim<W: Work>(shared: &Shared<W>) -> Result<usize, Failure> {
    let mut client = shared.db.get().await?;
    let tx = client.transaction().await?;
    store::prefer_indexes(&tx).await?;
    let expired = store::expired(&tx, W::QUEUE, MAX_RECLAIMED).await?;
    if expired.is_empty() {
        return Ok(0);
    }
    let reclaimed = match end_expired(shared, &tx, &expired).await {
        Ok(reclaimed) => reclaimed,
        Err(problem) if problem.blames_the_data() => {
            drop(tx);
            drop(client);
            return reclaim_one_by_one(shared, &expired).await;
        }
        Err(problem) => return Err(problem),
    };
    tx.commit().await?;
    reclaimed.committed(shared);
    Ok(expired.len())
}

/// For when one of them is refused: the others do not wait for it.
async fn reclaim_one_by_one<W: Work>(shared: &Shared<W>, expired: &[Claimed]) -> Result<usize, Failure> {
    let mut reclaimed = 0;
    for claimed in expired {
        let mut client = shared.db.get().await?;
        let tx = client.transaction().await?;
        store::prefer_indexes(&tx).await?;
        let result = end_expired(shared, &tx, std::slice::from_ref(claimed)).await;
        match result {
            Ok(one) => {
                tx.commit().await?;
                one.committed(shared);
                reclaimed += 1;
            }
            Err(problem) if problem.blames_the_data() => {
                drop(tx);
                drop(client);
                shared.postpone(claimed, &problem).await?;
                reclaimed += 1;
            }
            Err(problem) => return Err(problem),
        }
    }
    Ok(reclaimed)
}

/// The result of reclaiming expired leases.
struct Reclaimed<W: Work> {
    /// Companies whose jobs became ready by it.
    companies: Vec<CompanyId>,
    /// The jobs that had a result.
    finished: Vec<(Claimed, W::Job, W::Output, Ending)>,
}

impl<W: Work> Reclaimed<W> {
    /// To be called after the commit.
    fn committed(self, shared: &Shared<W>) {
        shared.wake.enqueued(self.companies);
        for (claimed, job, output, ending) in &self.finished {
            shared.work.committed(&Performed { claimed, job, output }, ending);
        }
    }
}

async fn end_expired<W: Work>(
    shared: &Shared<W>,
    tx: &Transaction<'_>,
    expired: &[Claimed],
) -> Result<Reclaimed<W>, Failure> {
    let leases: Vec<Lease> = expired.iter().map(|it| it.lease).collect();
    let released = store::release(tx, W::QUEUE, &leases).await?;
    let mut expired: Vec<Claimed> = expired.iter().filter(|it| released.contains(&it.lease)).cloned().collect();
    // In the order in which the results of a group are finished.
    expired.sort_unstable_by_key(|it| it.lease);
    if shared.work.expired_output().is_none() {
        let again = expired.iter().map(|job| EndedAttempt { job, ending: Ending::Retry(Duration::ZERO) });
        let companies = store::settle(tx, W::QUEUE, &again.collect::<Vec<_>>()).await?;
        return Ok(Reclaimed { companies, finished: Vec::new() });
    }
    let loaded = shared.work.load(tx, &expired).await?;
    let (mut gone, mut found) = (Vec::new(), Vec::new());
    for (claimed, loaded) in expired.into_iter().zip(loaded) {
        match (loaded, shared.work.expired_output()) {
            (Loaded::Known(job, output), _) | (Loaded::Call(job), Some(output)) => found.push((claimed, job, output)),
            (Loaded::Gone, _) | (Loaded::Call(_), None) => gone.push(claimed),
        }
    }
    let performed: Vec<_> = found.iter().map(|(claimed, job, output)| Performed { claimed, job, output }).collect();
    let endings = work::finish(&shared.work, tx, &performed).await?;
    let mut ended: Vec<EndedAttempt<'_>> = gone.iter().map(|job| EndedAttempt { job, ending: Ending::Done }).collect();
    ended.extend(found.iter().zip(&endings).map(|((job, ..), ending)| EndedAttempt { job, ending: ending.clone() }));
    let companies = store::settle(tx, W::QUEUE, &ended).await?;
    let finished = found.into_iter().zip(endings).map(|((claimed, job, output), end)| (claimed, job, output, end));
    Ok(Reclaimed { companies, finished: finished.collect() })
}

/// Expires and reclaims the leases of a previous run of this instance, as soon as Postgres answers.
pub(super) async fn expire_previous_run<W: Work>(shared: &Shared<W>, stop: &Stop) {
    loop {
        let expired =
            async { Ok::<u64, Failure>(store::expire_own(&shared.db.get().await?, W::QUEUE, &shared.instance).await?) };
        match expired.await {
            Ok(0) => return,
            Ok(jobs) => {
                tracing::info!(queue = %W::QUEUE, jobs, "reclaimed leases of a previous run");
                // The outcome of that run's calls is unknown; their jobs are settled before anything new is claimed.
                while matches!(reclaim(shared).await, Ok(1..)) {}
                return;
            }
            Err(problem) => {
                tracing::warn!(queue = %W::QUEUE, error = chain(&problem), "leases of a previous run not reclaimed, will be retried")
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
