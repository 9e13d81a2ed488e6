//! Races of two connections: statements in a given order, some of which must wait for the other's commit.

mod changes;
mod claims;
mod interleaved;
mod lanes;
mod leases;

use super::invariants::is_consistent;
use super::*;
use crate::tests::database::{Database, in_a_database};

/// Runs a test with two transactions of `secretaria_service`; both have ended when it returns.
async fn with_two(database: &Database, test: impl AsyncFnOnce(Transaction<'_>, Transaction<'_>)) {
    let (mut one, mut two) = (database.service.get().await.unwrap(), database.service.get().await.unwrap());
    let (one, two) = (one.transaction().await.unwrap(), two.transaction().await.unwrap());
    for tx in [&one, &two] {
        store::prefer_indexes(tx).await.unwrap();
    }
    test(one, two).await;
    is_consistent(database).await;
}

/// Runs a step that must wait for a lock; once it is waiting, runs `then`, which unblocks it.
#[track_caller]
fn waits<T>(
    database: &Database,
    tx: &Transaction<'_>,
    step: impl Future<Output = T>,
    then: impl Future<Output = Result<(), Error>>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let pid: i32 = tx.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let unblock = async {
            let blocked = format!("select cardinality(pg_blocking_pids({pid}))");
            for _ in 0..20_000 {
                if database.number(&blocked).await > 0 {
                    return then.await.unwrap();
                }
            }
            panic!("{caller}: the step does not wait");
        };
        tokio::join!(step, unblock).0
    }
}

async fn enqueue_in(tx: &Transaction<'_>, jobs: impl AsRef<[NewJob]>) -> Enqueued {
    store::enqueue(tx, QUEUE, jobs.as_ref()).await.unwrap()
}

async fn promote_in(tx: &Transaction<'_>) -> usize {
    store::promote(tx, QUEUE, 1_000).await.unwrap().0
}

async fn claim_in(tx: &Transaction<'_>, max: usize) -> Vec<Claimed> {
    let offers = [Offer { company: COMPANY, max, before: None }];
    store::claim(tx, QUEUE, &offers, max, LEASE, "two", usize::MAX).await.unwrap()
}

/// A job that is due now but was not promoted yet.
async fn enqueue_overdue(database: &Database, jobs: &[NewJob]) {
    let later: Vec<NewJob> = jobs.iter().map(|it| NewJob { due: after(3_600), ..it.clone() }).collect();
    enqueue(&database.service, &later).await;
    for job in jobs {
        let due = format!("due_at = due_at - interval '2 hours' where job_key = '{}'", job.key);
        database.run(&format!("update jobs_scheduled set {due}; update jobs set {due}")).await;
    }
}

/// Expires all leases.
async fn expire(database: &Database) {
    database.run("update jobs_running set lease_until = now() - interval '1 second'").await;
}

/// Claims and ends the remaining jobs, one after another; returns their order.
async fn finish_all(database: &Database) -> Vec<u128> {
    let mut order = Vec::new();
    loop {
        promote(&database.service).await;
        let claimed = claim(&database.service, 1).await;
        let Some(job) = claimed.first() else { return order };
        order.push(job.lease.key.as_u128());
        assert!(end(&database.service, job, Ending::Done).await);
        is_consistent(database).await;
    }
}
