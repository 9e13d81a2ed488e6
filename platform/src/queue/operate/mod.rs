//! An operator's commands on queues: pause and resume them, cancel a job, retry or drop dead jobs.

use domain::CompanyId;
use tokio_postgres::Row;
use uuid::Uuid;

use super::job::{Due, NewJob};
use super::{Change, Queue, by_key, store};
use crate::postgres::{Db, Failure, Transaction, execute, query};

#[cfg(test)]
mod tests;

/// What is paused or resumed: a queue, or one company in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    Company(CompanyId),
}

impl Part {
    /// The `company_id` in `queue_pauses`; 0 is the whole queue.
    fn company(self) -> i64 {
        match self {
            Part::Whole => 0,
            Part::Company(company) => company.0,
        }
    }
}

/// Stops claims. Running jobs go on, scheduled jobs still become ready, and the time of the pause counts as waiting. False
/// if it was paused already.
///
/// # Errors
/// If Postgres is unavailable or refuses.
pub async fn pause(db: &Db, queue: Queue, part: Part, by: &str) -> Result<bool, Failure> {
    let sql = "insert into secretaria.queue_pauses (company_id, queue, paused_by) values ($1, $2, $3)
               on conflict do nothing";
    Ok(execute(&db.get().await?, sql, &[&part.company(), &queue.name(), &by]).await? == 1)
}

/// The result of resuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Whether this was paused.
    pub was_paused: bool,
    /// Whether the whole queue is still paused.
    pub whole_is_paused: bool,
    /// How many companies of the queue are still paused.
    pub paused_companies: i64,
}

/// Allows claims again. A company's pause and that of the whole queue are independent: each is resumed by itself.
///
/// # Errors
/// If Postgres is unavailable or refuses.
pub async fn resume(db: &Db, queue: Queue, part: Part) -> Result<Resumed, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let sql = "delete from secretaria.queue_pauses where company_id = $1 and queue = $2";
    let was_paused = execute(&tx, sql, &[&part.company(), &queue.name()]).await? == 1;
    let sql = "select coalesce(bool_or(company_id = 0), false), count(*) filter (where company_id <> 0)
               from secretaria.queue_pauses
               where queue = $1";
    let row = tx.query_one(sql, &[&queue.name()]).await?;
    tx.commit().await?;
    Ok(Resumed { was_paused, whole_is_paused: row.get(0), paused_companies: row.get(1) })
}

/// Removes one live job, or requests its end if it is running.
///
/// # Errors
/// If Postgres is unavailable or refuses.
pub async fn cancel_one(db: &Db, queue: Queue, company: CompanyId, key: Uuid) -> Result<Change, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let change = by_key::cancel(&tx, queue, company, key).await?;
    tx.commit().await?;
    Ok(change)
}

/// Which dead jobs of one queue; `None` does not restrict.
#[derive(Debug, Clone)]
pub struct DeadFilter {
    pub company: Option<CompanyId>,
    pub key: Option<Uuid>,
    pub cause: Option<String>,
    /// At most so many, the oldest first.
    pub limit: u32,
}

/// Whether a command changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Only returns what would be changed.
    Dry,
    Real,
}

/// A dead job, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    pub company: CompanyId,
    pub key: Uuid,
    pub cause: String,
    pub attempts: i32,
    /// Whether a job of its key is live: it is then not enqueued again.
    pub is_live: bool,
}

/// Enqueues dead jobs again, due at once and last in their lane. One whose key is live again is left as it is.
///
/// # Errors
/// If Postgres is unavailable or refuses; then nothing is changed.
pub async fn retry(db: &Db, queue: Queue, filter: &DeadFilter, run: Run) -> Result<Vec<Dead>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let (dead, jobs): (Vec<Dead>, Vec<NewJob>) = lock(&tx, queue, filter).await?.into_iter().unzip();
    if run == Run::Dry {
        return Ok(dead);
    }
    let again: Vec<NewJob> = dead.iter().zip(jobs).filter(|(dead, _)| !dead.is_live).map(|(_, job)| job).collect();
    remove(&tx, queue, again.iter().map(|it| (it.company, it.key))).await?;
    store::enqueue(&tx, queue, &again).await?;
    tx.commit().await?;
    Ok(dead)
}

/// Deletes dead jobs.
///
/// # Errors
/// If Postgres is unavailable or refuses; then nothing is changed.
pub async fn drop(db: &Db, queue: Queue, filter: &DeadFilter, run: Run) -> Result<Vec<Dead>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let dead: Vec<Dead> = lock(&tx, queue, filter).await?.into_iter().map(|(dead, _)| dead).collect();
    if run == Run::Real {
        remove(&tx, queue, dead.iter().map(|it| (it.company, it.key))).await?;
        tx.commit().await?;
    }
    Ok(dead)
}

/// Locks dead jobs, the oldest first, and reads them as they would be enqueued again.
async fn lock(tx: &Transaction<'_>, queue: Queue, filter: &DeadFilter) -> Result<Vec<(Dead, NewJob)>, Failure> {
    let DeadFilter { company, key, cause, limit } = filter;
    let rows = query(
        tx,
        "select d.company_id, d.job_key, d.cause, d.attempts, d.lane, d.body, d.traceparent,
           exists (
             select from secretaria.jobs j
             where j.company_id = d.company_id and j.queue = d.queue and j.job_key = d.job_key)
         from secretaria.jobs_dead d
         where d.queue = $1
           and ($2::bigint is null or d.company_id = $2)
           and ($3::uuid is null or d.job_key = $3)
           and ($4::text is null or d.cause = $4)
         order by d.died_at, d.company_id, d.job_key
         limit $5
         for update of d",
        &[&queue.name(), &company.map(|it| it.0), key, cause, &i64::from(*limit)],
    )
    .await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &Row) -> (Dead, NewJob) {
    let (company, key) = (CompanyId(row.get(0)), row.get(1));
    let dead = Dead { company, key, cause: row.get(2), attempts: row.get(3), is_live: row.get(7) };
    let job = NewJob {
        lane: row.get(4),
        due: Due::Now,
        body: row.get(5),
        traceparent: row.get(6),
        ..NewJob::new(company, key)
    };
    (dead, job)
}

async fn remove(
    tx: &Transaction<'_>,
    queue: Queue,
    keys: impl Iterator<Item = (CompanyId, Uuid)>,
) -> Result<(), Failure> {
    let (companies, keys): (Vec<i64>, Vec<Uuid>) = keys.map(|(company, key)| (company.0, key)).unzip();
    let sql = "delete from secretaria.jobs_dead d
               using unnest($2::bigint[], $3::uuid[]) as k (company_id, job_key)
               where d.company_id = k.company_id and d.queue = $1 and d.job_key = k.job_key";
    execute(tx, sql, &[&queue.name(), &companies, &keys]).await?;
    Ok(())
}
