//! The queue on a real Postgres: rows, races of two connections, and the worker.

mod invariants;
mod races;
mod rows;
mod search;
mod worker;

use std::time::Duration;

use domain::CompanyId;
use uuid::Uuid;

use super::job::{Claimed, Ending, Lease, NewJob};
use super::store::{self, EndedAttempt, Offer};
use super::{Due, Enqueued, Queue};
use crate::postgres::{Db, Error, Transaction};

const QUEUE: Queue = Queue::named("test");
const COMPANY: CompanyId = CompanyId(1);
const LEASE: Duration = Duration::from_secs(60);

fn key(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A job of [`COMPANY`] in a lane.
fn in_lane(number: u128, lane: u128) -> NewJob {
    NewJob { lane: Some(key(lane)), ..NewJob::new(COMPANY, key(number)) }
}

async fn in_tx<T>(db: &Db, work: impl AsyncFnOnce(&Transaction<'_>) -> T) -> T {
    let mut client = db.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let result = work(&tx).await;
    tx.commit().await.unwrap();
    result
}

async fn enqueue(db: &Db, jobs: &[NewJob]) -> Enqueued {
    in_tx(db, async |tx| store::enqueue(tx, QUEUE, jobs).await.unwrap()).await
}

async fn claim_of(db: &Db, companies: &[CompanyId], max: usize) -> Vec<Claimed> {
    let offers: Vec<Offer> = companies.iter().map(|&company| Offer { company, max, before: None }).collect();
    in_tx(db, async |tx| {
        store::prefer_indexes(tx).await.unwrap();
        store::claim(tx, QUEUE, &offers, max, LEASE, "one", usize::MAX).await.unwrap()
    })
    .await
}

async fn claim(db: &Db, max: usize) -> Vec<Claimed> {
    claim_of(db, &[COMPANY], max).await
}

/// Ends a claimed job; returns whether its lease still held.
async fn end(db: &Db, job: &Claimed, ending: Ending) -> bool {
    in_tx(db, async |tx| {
        store::prefer_indexes(tx).await.unwrap();
        end_in(tx, job, ending).await.unwrap()
    })
    .await
}

async fn end_in(tx: &Transaction<'_>, job: &Claimed, ending: Ending) -> Result<bool, Error> {
    if store::release(tx, QUEUE, &[job.lease]).await?.is_empty() {
        return Ok(false);
    }
    store::settle(tx, QUEUE, &[EndedAttempt { job, ending }]).await?;
    Ok(true)
}

/// Reclaims expired leases: their attempts are made again at once. Returns how many.
async fn reclaim_in(tx: &Transaction<'_>) -> usize {
    let expired = store::expired(tx, QUEUE, 100).await.unwrap();
    for job in &expired {
        assert!(end_in(tx, job, Ending::Retry(Duration::ZERO)).await.unwrap());
    }
    expired.len()
}

async fn promote(db: &Db) -> usize {
    in_tx(db, async |tx| store::promote(tx, QUEUE, 1_000).await.unwrap().0).await
}

fn numbers(jobs: &[Claimed]) -> Vec<u128> {
    jobs.iter().map(|it| it.lease.key.as_u128()).collect()
}

fn after(seconds: u64) -> Due {
    Due::After(Duration::from_secs(seconds))
}
