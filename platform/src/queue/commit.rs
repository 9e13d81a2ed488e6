//! Commits results in groups: while one group is being committed, the next results accumulate.
//!
//! A group that fails is committed one by one. While Postgres is unavailable, results wait and their leases are renewed; a
//! result whose lease was lost is discarded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::job::{Ending, Lease};
use super::shared::{PendingResult, Shared};
use super::store::{self, EndedAttempt};
use super::work::{self, Performed, Work};
use crate::pace::Pace;
use crate::postgres::{Failure, execute};
use crate::task;
use crate::telemetry::chain;

/// Most results in one transaction, and most that wait for the next one; further ones wait in their calls' slots.
pub(super) const MAX_GROUP: usize = 128;
/// The shortest time between two groups, unless one is full.
const PERIOD: Duration = Duration::from_millis(25);
/// A group that fails this often for reasons of the server is committed one by one, which resolves a deadlock.
const GROUP_TRIES: usize = 3;
/// Most groups that are being committed one by one at the same time.
const MAX_SINGLE_COMMITS: usize = 4;
/// How long a commit waits for another transaction's lock.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '2s'";

/// The queue of results that wait for their commit.
pub(super) struct Results<W: Work> {
    waiting: mpsc::Receiver<PendingResult<W>>,
    pace: Pace,
}

impl<W: Work> From<mpsc::Receiver<PendingResult<W>>> for Results<W> {
    fn from(waiting: mpsc::Receiver<PendingResult<W>>) -> Self {
        Results { waiting, pace: Pace::new(PERIOD) }
    }
}

impl<W: Work> Results<W> {
    /// The next group; empty when no more can come.
    async fn next_group(&mut self) -> Vec<PendingResult<W>> {
        let mut group = Vec::new();
        self.waiting.recv_many(&mut group, MAX_GROUP).await;
        // More results may arrive until the next round may begin; a full group does not wait.
        let rest = async {
            while group.len() < MAX_GROUP {
                let max = MAX_GROUP - group.len();
                if self.waiting.recv_many(&mut group, max).await == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(self.pace.remaining(), rest).await;
        self.pace.begin();
        group
    }
}

/// Commits results until no more can come. A group that fails is committed one by one in parallel with later groups, so
/// that a result that waits for a lock delays no other company.
pub(super) async fn keep_committing<W: Work>(shared: Arc<Shared<W>>, mut results: Results<W>) {
    let mut singles = JoinSet::new();
    loop {
        let mut group = results.next_group().await;
        if group.is_empty() {
            break;
        }
        // All groups take their locks in this order.
        group.sort_by_key(|it| it.claimed.lease);
        // A task of its own: after a panic only the leases of this group expire.
        let committing = Arc::clone(&shared);
        let left = match task::spawn("commit", async move { commit_group(&committing, group).await }).await {
            Ok(left) => left,
            Err(problem) => {
                log_panic::<W>(&problem);
                continue;
            }
        };
        while singles.len() >= MAX_SINGLE_COMMITS
            && let Some(ended) = singles.join_next().await
        {
            ended.unwrap_or_else(|problem| log_panic::<W>(&problem));
        }
        if !left.is_empty() {
            let shared = Arc::clone(&shared);
            singles.spawn(async move { commit_one_by_one(&shared, left).await });
        }
    }
    while let Some(ended) = singles.join_next().await {
        ended.unwrap_or_else(|problem| log_panic::<W>(&problem));
    }
}

fn log_panic<W: Work>(problem: &tokio::task::JoinError) {
    tracing::error!(queue = %W::QUEUE, error = chain(problem), "a commit panicked: its results are lost, their leases will expire and be reclaimed");
}

/// Commits a group; returns the results to be committed one by one.
async fn commit_group<W: Work>(shared: &Shared<W>, group: Vec<PendingResult<W>>) -> Vec<PendingResult<W>> {
    let mut wait = Duration::from_millis(20);
    for _ in 0..GROUP_TRIES {
        match commit(shared, &group).await {
            Ok(endings) => {
                report(shared, group, &endings);
                return Vec::new();
            }
            Err(problem) if problem.blames_the_data() => break,
            Err(problem) => {
                warn_of::<W>(&problem);
                if problem.is_timeout() {
                    break;
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    group
}

/// Pauses are shorter than the claimer's, so that results are committed before new jobs are claimed.
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// Commits results one by one, round after round, until none is left.
async fn commit_one_by_one<W: Work>(shared: &Shared<W>, group: Vec<PendingResult<W>>) {
    let mut left: Vec<SingleResult<W>> =
        group.into_iter().map(|result| SingleResult { result, was_refused: false }).collect();
    let mut wait = Duration::from_millis(20);
    loop {
        let mut again = Vec::new();
        for single in left {
            again.extend(commit_single(shared, single).await);
        }
        if again.is_empty() {
            return;
        }
        left = again;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// A result that is committed by itself.
struct SingleResult<W: Work> {
    result: PendingResult<W>,
    /// Whether Postgres refused the first output, so that it was replaced.
    was_refused: bool,
}

/// Tries once; returns the result if it is to be tried again.
async fn commit_single<W: Work>(shared: &Shared<W>, mut single: SingleResult<W>) -> Option<SingleResult<W>> {
    let result = &mut single.result;
    match commit(shared, std::slice::from_ref(result)).await {
        Ok(endings) => {
            report(shared, vec![single.result], &endings);
            return None;
        }
        Err(problem) if problem.blames_the_data() => {
            match shared.work.refused(&result.performed(), &problem).filter(|_| !single.was_refused) {
                Some(output) => {
                    tracing::error!(
                        queue = %W::QUEUE, company_id = result.claimed.company().0, job = %result.claimed.lease.key,
                        error = chain(&problem), "postgres refuses the result: a replacement is stored"
                    );
                    result.output = output;
                    single.was_refused = true;
                }
                None => match shared.postpone(&result.claimed, &problem).await {
                    Ok(()) => return None,
                    Err(problem) => warn_of::<W>(&problem),
                },
            }
        }
        Err(problem) => warn_of::<W>(&problem),
    }
    (!single.result.guard.lost.is_cancelled()).then_some(single)
}

fn warn_of<W: Work>(problem: &Failure) {
    tracing::warn!(queue = %W::QUEUE, error = chain(problem), "results not committed, will be retried");
}

/// One transaction: leases are released, effects are written, jobs end. Returns `None` for a result whose lease was lost.
async fn commit<W: Work>(shared: &Shared<W>, group: &[PendingResult<W>]) -> Result<Vec<Option<Ending>>, Failure> {
    let mut client = shared.db.get().await?;
    let tx = client.transaction().await?;
    store::prefer_indexes(&tx).await?;
    execute(&tx, LOCK_TIMEOUT, &[]).await?;
    let leases: Vec<Lease> = group.iter().map(|it| it.claimed.lease).collect();
    let released: HashSet<Lease> = store::release(&tx, W::QUEUE, &leases).await?.into_iter().collect();
    let valid: Vec<&PendingResult<W>> = group.iter().filter(|it| released.contains(&it.claimed.lease)).collect();
    let mut companies = Vec::new();
    let performed: Vec<Performed<'_, W::Job, W::Output>> = valid.iter().map(|it| it.performed()).collect();
    let endings = work::finish(&shared.work, &tx, &performed).await?;
    if !valid.is_empty() {
        let ended: Vec<EndedAttempt<'_>> = valid
            .iter()
            .zip(&endings)
            .map(|(it, ending)| EndedAttempt { job: &it.claimed, ending: ending.clone() })
            .collect();
        companies = store::settle(&tx, W::QUEUE, &ended).await?;
    }
    tx.commit().await?;
    if endings.iter().any(|it| matches!(it, Ending::Retry(_) | Ending::HeldBack(_))) {
        shared.wake.enqueued(companies);
    } else if !companies.is_empty() {
        shared.wake.ready(companies);
    }
    let mut endings = endings.into_iter();
    Ok(group.iter().map(|it| if released.contains(&it.claimed.lease) { endings.next() } else { None }).collect())
}

fn report<W: Work>(shared: &Shared<W>, group: Vec<PendingResult<W>>, endings: &[Option<Ending>]) {
    for (result, ending) in group.into_iter().zip(endings) {
        shared.report(&result, ending.as_ref());
    }
}
