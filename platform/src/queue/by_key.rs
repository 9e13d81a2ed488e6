//! Changes a live job by its key: reschedules or cancels it.
//!
//! Changes of one job are serialized by an advisory lock that nothing else takes: a lock on its row in `jobs` could
//! deadlock with the transaction that ends the job. A job may change its state while it is looked up, and is then looked
//! up again.

use domain::CompanyId;
use jiff::Timestamp;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Queue;
use super::job::{Claimed, Due, Ending, Lease};
use super::store::{self, EndedAttempt};
use crate::postgres::{Transaction, execute, query};

/// The result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Made,
    /// The job is running: it cannot be rescheduled; a cancel is requested of its call.
    Running,
    /// There is no such job.
    Missing,
}

/// How often a job that keeps changing its state is looked up.
const MAX_LOOKUPS: usize = 5;

/// Changes when a live job is due. One that holds its lane keeps it; one that waits behind others keeps its position.
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub async fn reschedule(
    tx: &Transaction<'_>,
    queue: Queue,
    company: CompanyId,
    key: Uuid,
    due: Due,
) -> Result<Change, Error> {
    lock(tx, queue, company, key).await?;
    let due_at = instant(tx, due).await?;
    for _ in 0..MAX_LOOKUPS {
        let Some(job) = read(tx, queue, company, key).await? else { return Ok(Change::Missing) };
        if let Some(found) = remove(tx, queue, &job).await? {
            let keeps_lane = found.holds_lane;
            execute(
                tx,
                "insert into secretaria.jobs_scheduled
                   (queue, due_at, company_id, job_key, lane, keeps_lane, priority, attempts)
                 values ($1, $2, $3, $4, $5, $6, $7, $8)",
                &[&queue.name(), &due_at, &company.0, &key, &job.lane, &keeps_lane, &job.priority, &found.attempts],
            )
            .await?;
        } else if !postpone_waiting(tx, queue, &job, due_at).await? {
            if is_running(tx, queue, company, key).await? {
                return Ok(Change::Running);
            }
            continue;
        }
        execute(
            tx,
            "update secretaria.jobs set due_at = $4 where company_id = $1 and queue = $2 and job_key = $3",
            &[&company.0, &queue.name(), &key, &due_at],
        )
        .await?;
        return Ok(Change::Made);
    }
    Ok(Change::Running)
}

/// Postpones a job that is scheduled; any other is left as it is.
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub async fn postpone(
    tx: &Transaction<'_>,
    queue: Queue,
    company: CompanyId,
    key: Uuid,
    due_at: Timestamp,
) -> Result<(), Error> {
    execute(
        tx,
        "with job as materialized (
           select due_at
           from secretaria.jobs
           where company_id = $1 and queue = $2 and job_key = $3
           for update
         ), moved as (
           update secretaria.jobs_scheduled s
           set due_at = $4
           from job
           where s.queue = $2 and s.due_at = job.due_at and s.company_id = $1 and s.job_key = $3
           returning s.job_key
         )
         update secretaria.jobs j
         set due_at = $4
         from moved
         where j.company_id = $1 and j.queue = $2 and j.job_key = moved.job_key",
        &[&company.0, &queue.name(), &key, &due_at],
    )
    .await?;
    Ok(())
}

/// Removes a live job, or requests that a running one ends. To be called last in a transaction, like [`store::enqueue`].
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub async fn cancel(tx: &Transaction<'_>, queue: Queue, company: CompanyId, key: Uuid) -> Result<Change, Error> {
    lock(tx, queue, company, key).await?;
    for _ in 0..MAX_LOOKUPS {
        let Some(job) = read(tx, queue, company, key).await? else { return Ok(Change::Missing) };
        if let Some(found) = remove(tx, queue, &job).await? {
            let lane = job.lane.filter(|_| found.holds_lane);
            end(tx, queue, &job, lane).await?;
            return Ok(Change::Made);
        }
        // Before any lane is locked: a transaction that ends the job locks its lease first, then the lane.
        let requested = execute(
            tx,
            "update secretaria.jobs_running
             set cancel_requested = true
             where company_id = $1 and queue = $2 and job_key = $3",
            &[&company.0, &queue.name(), &key],
        )
        .await?;
        if requested == 1 {
            return Ok(Change::Running);
        }
        if remove_waiting(tx, queue, &job).await? {
            end(tx, queue, &job, None).await?;
            return Ok(Change::Made);
        }
    }
    Ok(Change::Running)
}

/// A row of `jobs`.
struct Job {
    company: CompanyId,
    key: Uuid,
    lane: Option<Uuid>,
    priority: i16,
    due_at: Timestamp,
}

async fn lock(tx: &Transaction<'_>, queue: Queue, company: CompanyId, key: Uuid) -> Result<(), Error> {
    let sql = "select pg_advisory_xact_lock(
                 hashtextextended(format('job %s %s %s', $1::text, $2::bigint, $3::uuid), 0))";
    query(tx, sql, &[&queue.name(), &company.0, &key]).await.map(drop)
}

async fn read(tx: &Transaction<'_>, queue: Queue, company: CompanyId, key: Uuid) -> Result<Option<Job>, Error> {
    let rows = query(
        tx,
        "select lane, priority, due_at
         from secretaria.jobs
         where company_id = $1 and queue = $2 and job_key = $3",
        &[&company.0, &queue.name(), &key],
    )
    .await?;
    let job = |row: &Row| Job { company, key, lane: row.get(0), priority: row.get(1), due_at: row.get(2) };
    Ok(rows.first().map(job))
}

async fn instant(tx: &Transaction<'_>, due: Due) -> Result<Timestamp, Error> {
    let (at, after_s) = match due {
        Due::Now => (None, 0.0),
        Due::After(wait) => (None, wait.as_secs_f64()),
        Due::At(instant) => (Some(instant), 0.0),
    };
    let sql = "select coalesce($1::timestamptz, now() + make_interval(secs => $2))";
    let rows = query(tx, sql, &[&at, &after_s]).await?;
    Ok(rows.first().map_or(Timestamp::UNIX_EPOCH, |row| row.get(0)))
}

struct Removed {
    attempts: i32,
    holds_lane: bool,
}

/// Deletes a job from `jobs_scheduled` or `jobs_ready`, if it is in one of them.
async fn remove(tx: &Transaction<'_>, queue: Queue, job: &Job) -> Result<Option<Removed>, Error> {
    let scheduled = query(
        tx,
        "delete from secretaria.jobs_scheduled
         where queue = $1 and due_at = $2 and company_id = $3 and job_key = $4
         returning attempts, keeps_lane",
        &[&queue.name(), &job.due_at, &job.company.0, &job.key],
    )
    .await?;
    if let Some(row) = scheduled.first() {
        return Ok(Some(Removed { attempts: row.get(0), holds_lane: row.get(1) }));
    }
    let ready = query(
        tx,
        "delete from secretaria.jobs_ready
         where company_id = $1 and queue = $2 and priority = $3 and due_at = $4 and job_key = $5
         returning attempts, lane is not null",
        &[&job.company.0, &queue.name(), &job.priority, &job.due_at, &job.key],
    )
    .await?;
    Ok(ready.first().map(|row| Removed { attempts: row.get(0), holds_lane: row.get(1) }))
}

/// Locks the lane of a job that waits in it: the transaction that ends the job before it may be making it ready.
async fn lock_lane(tx: &Transaction<'_>, queue: Queue, job: &Job) -> Result<(), Error> {
    query(
        tx,
        "select
         from secretaria.job_lanes l
         where l.company_id = $1 and l.queue = $2 and l.lane = $3 and exists (
           select from secretaria.jobs_waiting w
           where w.company_id = l.company_id and w.queue = l.queue and w.lane = l.lane and w.job_key = $4)
         for update of l",
        &[&job.company.0, &queue.name(), &job.lane, &job.key],
    )
    .await
    .map(drop)
}

/// Changes when a job that waits behind others is due.
async fn postpone_waiting(tx: &Transaction<'_>, queue: Queue, job: &Job, due_at: Timestamp) -> Result<bool, Error> {
    lock_lane(tx, queue, job).await?;
    let postponed = execute(
        tx,
        "update secretaria.jobs_waiting
         set due_at = $5
         where company_id = $1 and queue = $2 and lane = $3 and job_key = $4",
        &[&job.company.0, &queue.name(), &job.lane, &job.key, &due_at],
    )
    .await?;
    Ok(postponed == 1)
}

/// Deletes a job that waits behind others.
async fn remove_waiting(tx: &Transaction<'_>, queue: Queue, job: &Job) -> Result<bool, Error> {
    lock_lane(tx, queue, job).await?;
    let removed = execute(
        tx,
        "with removed as (
           delete from secretaria.jobs_waiting
           where company_id = $1 and queue = $2 and lane = $3 and job_key = $4
           returning lane
         )
         update secretaria.job_lanes l
         set jobs = l.jobs - 1
         from removed
         where l.company_id = $1 and l.queue = $2 and l.lane = removed.lane",
        &[&job.company.0, &queue.name(), &job.lane, &job.key],
    )
    .await?;
    Ok(removed == 1)
}

/// Deletes the job's row in `jobs` and passes on the lane that it held.
async fn end(tx: &Transaction<'_>, queue: Queue, job: &Job, lane: Option<Uuid>) -> Result<(), Error> {
    let job = Claimed {
        lease: Lease { company: job.company, key: job.key, fence: 0 },
        lane,
        priority: job.priority,
        due_at: job.due_at,
        attempts: 0,
        body: serde_json::Value::Null,
        traceparent: None,
        overdue: std::time::Duration::ZERO,
    };
    store::settle(tx, queue, &[EndedAttempt { job: &job, ending: Ending::Done }]).await.map(drop)
}

async fn is_running(tx: &Transaction<'_>, queue: Queue, company: CompanyId, key: Uuid) -> Result<bool, Error> {
    let sql = "select from secretaria.jobs_running where company_id = $1 and queue = $2 and job_key = $3";
    Ok(!query(tx, sql, &[&company.0, &queue.name(), &key]).await?.is_empty())
}
