//! Most of the queue's SQL. This folder alone writes the tables `jobs*`, `job_lanes` and `periodic_jobs`.
//!
//! Lanes are locked after jobs, in the order of their keys. A transaction that enqueues does so last.

use std::time::Duration;

use domain::CompanyId;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Queue;
use super::job::{Claimed, Due, Ending, Lease, NewJob};
use crate::postgres::{GenericClient, Transaction, execute, query};

/// A company that a claim may claim jobs of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Offer {
    pub(super) company: CompanyId,
    /// Most jobs of it.
    pub(super) max: usize,
    /// Only jobs that became due before this instant.
    pub(super) before: Option<Timestamp>,
}

/// A claimed job, and how the attempt at it ended.
#[derive(Debug, Clone)]
pub(super) struct EndedAttempt<'a> {
    pub(super) job: &'a Claimed,
    pub(super) ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Jobs whose key was not live yet.
    pub added: usize,
    /// Those of them that may run at once.
    pub ready: usize,
}

/// Keeps the planner from choosing plans by how small a table was a minute ago: these tables grow from empty to millions of
/// rows faster than statistics follow, and a plan is kept as long as its connection.
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub async fn prefer_indexes(tx: &Transaction<'_>) -> Result<(), Error> {
    const SETTINGS: &str =
        "select set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('plan_cache_mode', 'force_generic_plan', true)";
    query(tx, SETTINGS, &[]).await.map(drop)
}

/// Enqueues jobs in the caller's transaction; to be called last in it.
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub async fn enqueue(tx: &Transaction<'_>, queue: Queue, jobs: &[NewJob]) -> Result<Enqueued, Error> {
    if jobs.is_empty() {
        return Ok(Enqueued { added: 0, ready: 0 });
    }
    let companies: Vec<i64> = jobs.iter().map(|it| it.company.0).collect();
    let keys: Vec<Uuid> = jobs.iter().map(|it| it.key).collect();
    let lanes: Vec<Option<Uuid>> = jobs.iter().map(|it| it.lane).collect();
    let priorities: Vec<i16> = jobs.iter().map(|it| it.priority).collect();
    let (at, after_s): (Vec<Option<Timestamp>>, Vec<f64>) = jobs.iter().map(|it| due(it.due)).unzip();
    let bodies: Vec<&Value> = jobs.iter().map(|it| &it.body).collect();
    let traces: Vec<Option<&str>> = jobs.iter().map(|it| it.traceparent.as_deref()).collect();
    let rows = query(
        tx,
        include_str!("sql/enqueue.sql"),
        &[&queue.name(), &companies, &keys, &lanes, &priorities, &at, &after_s, &bodies, &traces],
    )
    .await?;
    Ok(Enqueued { added: rows.len(), ready: rows.iter().filter(|row| row.get(2)).count() })
}

fn due(due: Due) -> (Option<Timestamp>, f64) {
    match due {
        Due::Now => (None, 0.0),
        Due::After(wait) => (None, wait.as_secs_f64()),
        Due::At(instant) => (Some(instant), 0.0),
    }
}

/// Claims at most `max` jobs of the companies offered.
pub(super) async fn claim(
    tx: &Transaction<'_>,
    queue: Queue,
    offers: &[Offer],
    max: usize,
    lease: Duration,
    instance: &str,
    company_cap: usize,
) -> Result<Vec<Claimed>, Error> {
    let companies: Vec<i64> = offers.iter().map(|it| it.company.0).collect();
    let each: Vec<i32> = offers.iter().map(|it| to_i32(it.max)).collect();
    let before: Vec<Timestamp> = offers.iter().map(|it| it.before.unwrap_or(FAR_FUTURE)).collect();
    let rows = query(
        tx,
        include_str!("sql/claim.sql"),
        &[
            &queue.name(),
            &companies,
            &each,
            &before,
            &to_i32(company_cap),
            &instance,
            &i64::try_from(max).unwrap_or(i64::MAX),
            &lease.as_secs_f64(),
        ],
    )
    .await?;
    Ok(rows.iter().map(read_claimed).collect())
}

/// Later than any job is due, and still in the range of `timestamptz`.
const FAR_FUTURE: Timestamp = Timestamp::MAX;

/// Locks the companies whose number of running jobs is capped, so that the cap holds across processes.
///
/// In a statement of its own: the claim's snapshot is then newer than the lock.
pub(super) async fn lock_capped(tx: &Transaction<'_>, queue: Queue, offers: &[Offer], all: bool) -> Result<(), Error> {
    let companies: Vec<i64> = offers.iter().map(|it| it.company.0).collect();
    query(
        tx,
        "select pg_advisory_xact_lock(hashtextextended('job queue ' || $1, company_id))
         from (
           select c.company_id
           from unnest($2::bigint[]) as c (company_id)
           where $3 or exists (
             select from secretaria.queue_limits l
             where l.company_id = c.company_id and l.queue = $1 and l.max_running is not null)
           order by c.company_id
         ) capped",
        &[&queue.name(), &companies, &all],
    )
    .await
    .map(drop)
}

/// Locks and returns expired leases, oldest first.
pub(super) async fn expired(tx: &Transaction<'_>, queue: Queue, max: i64) -> Result<Vec<Claimed>, Error> {
    let rows = query(tx, include_str!("sql/expired.sql"), &[&queue.name(), &max]).await?;
    Ok(rows.iter().map(read_claimed).collect())
}

fn read_claimed(row: &Row) -> Claimed {
    Claimed {
        lease: Lease { company: CompanyId(row.get(0)), key: row.get(1), fence: row.get(2) },
        lane: row.get(3),
        priority: row.get(4),
        due_at: row.get(5),
        attempts: row.get(6),
        body: row.get(7),
        traceparent: row.get(8),
        overdue: Duration::try_from_secs_f64(row.get(9)).unwrap_or_default(),
    }
}

/// A lease that still holds, and whether its job is to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Renewed {
    pub(super) lease: Lease,
    pub(super) is_cancelled: bool,
}

/// Renews leases and stores their progress (per mille); those not returned are lost.
pub(super) async fn renew(
    client: &impl GenericClient,
    queue: Queue,
    leases: &[(Lease, Option<i16>)],
    lease: Duration,
) -> Result<Vec<Renewed>, Error> {
    let (companies, keys, fences) = arrays(leases.iter().map(|(lease, _)| lease));
    let progress: Vec<Option<i16>> = leases.iter().map(|(_, progress)| *progress).collect();
    let rows = query(
        client,
        include_str!("sql/renew.sql"),
        &[&queue.name(), &companies, &keys, &fences, &progress, &lease.as_secs_f64()],
    )
    .await?;
    let renewed = |row: &Row| Renewed {
        lease: Lease { company: CompanyId(row.get(0)), key: row.get(1), fence: row.get(2) },
        is_cancelled: row.get(3),
    };
    Ok(rows.iter().map(renewed).collect())
}

/// Expires the leases of a previous run of this instance; returns how many.
pub(super) async fn expire_own(client: &impl GenericClient, queue: Queue, instance: &str) -> Result<u64, Error> {
    execute(client, include_str!("sql/expire_own.sql"), &[&queue.name(), &instance]).await
}

/// Releases leases; only the results of those returned are valid.
pub(super) async fn release(tx: &Transaction<'_>, queue: Queue, leases: &[Lease]) -> Result<Vec<Lease>, Error> {
    let (companies, keys, fences) = arrays(leases.iter());
    let rows = query(tx, include_str!("sql/release.sql"), &[&queue.name(), &companies, &keys, &fences]).await?;
    let lease = |row: &Row| Lease { company: CompanyId(row.get(0)), key: row.get(1), fence: row.get(2) };
    let held: Vec<Lease> = rows.iter().map(lease).collect();
    if held.is_empty() {
        return Ok(held);
    }
    let (companies, keys, _) = arrays(held.iter());
    execute(tx, include_str!("sql/remove_leases.sql"), &[&queue.name(), &companies, &keys]).await?;
    Ok(held)
}

/// Ends attempts whose leases were released in this transaction. Returns the companies whose jobs became ready by it.
pub(super) async fn settle(
    tx: &Transaction<'_>,
    queue: Queue,
    ended: &[EndedAttempt<'_>],
) -> Result<Vec<CompanyId>, Error> {
    let leaving = ended.iter().filter(|it| matches!(it.ending, Ending::Done | Ending::DeadLetter { .. }));
    let (companies, lanes): (Vec<i64>, Vec<Uuid>) =
        leaving.filter_map(|it| Some((it.job.company().0, it.job.lane?))).unzip();
    if !lanes.is_empty() {
        query(tx, include_str!("sql/lock_lanes.sql"), &[&queue.name(), &companies, &lanes]).await?;
    }
    let companies: Vec<i64> = ended.iter().map(|it| it.job.company().0).collect();
    let keys: Vec<Uuid> = ended.iter().map(|it| it.job.lease.key).collect();
    let lanes: Vec<Option<Uuid>> = ended.iter().map(|it| it.job.lane).collect();
    let priorities: Vec<i16> = ended.iter().map(|it| it.job.priority).collect();
    let attempts: Vec<i32> = ended.iter().map(attempts_after).collect();
    let endings: Vec<&str> = ended.iter().map(|it| settle_name(&it.ending)).collect();
    let after_s: Vec<f64> = ended.iter().map(|it| wait_s(&it.ending)).collect();
    let causes: Vec<Option<&str>> = ended.iter().map(|it| cause(&it.ending).map(|it| it.0)).collect();
    let details: Vec<Option<&str>> = ended.iter().map(|it| cause(&it.ending).map(|it| it.1)).collect();
    let first_due: Vec<Option<Timestamp>> = ended.iter().map(first_due_at).collect();
    let (queue, sql) = (queue.name(), include_str!("sql/settle.sql"));
    let rows = query(
        tx,
        sql,
        &[&queue, &companies, &keys, &lanes, &priorities, &attempts, &endings, &after_s, &causes, &details, &first_due],
    )
    .await?;
    Ok(rows.iter().map(|row| CompanyId(row.get(0))).collect())
}

fn attempts_after(ended: &EndedAttempt<'_>) -> i32 {
    let held_back = matches!(ended.ending, Ending::HeldBack(_));
    ended.job.attempts - i32::from(held_back)
}

/// A job that is held back keeps the instant at which it became due, so that its deadline does not move.
fn first_due_at(ended: &EndedAttempt<'_>) -> Option<Timestamp> {
    matches!(ended.ending, Ending::HeldBack(_)).then_some(ended.job.due_at)
}

/// The names that `settle.sql` knows.
fn settle_name(ending: &Ending) -> &'static str {
    match ending {
        Ending::Done => "done",
        Ending::Retry(_) | Ending::HeldBack(_) => "again",
        Ending::DeadLetter { .. } => "dead",
    }
}

fn wait_s(ending: &Ending) -> f64 {
    match ending {
        Ending::Retry(wait) | Ending::HeldBack(wait) => wait.as_secs_f64(),
        Ending::Done | Ending::DeadLetter { .. } => 0.0,
    }
}

fn cause(ending: &Ending) -> Option<(&'static str, &str)> {
    match ending {
        Ending::DeadLetter { cause, detail } => Some((cause, detail)),
        Ending::Done | Ending::Retry(_) | Ending::HeldBack(_) => None,
    }
}

/// Moves at most `max` due jobs out of `jobs_scheduled`; returns how many, and the companies that have ready jobs by it.
pub(super) async fn promote(tx: &Transaction<'_>, queue: Queue, max: i64) -> Result<(usize, Vec<CompanyId>), Error> {
    let rows = query(tx, include_str!("sql/promote.sql"), &[&queue.name(), &max]).await?;
    let ready = rows.iter().filter(|row| row.get(1)).map(|row| CompanyId(row.get(0)));
    Ok((rows.len(), ready.collect()))
}

/// How long until the next scheduled job is due; `None` while none is scheduled.
pub(super) async fn next_due(client: &impl GenericClient, queue: Queue) -> Result<Option<Duration>, Error> {
    let rows = query(client, include_str!("sql/next_due.sql"), &[&queue.name()]).await?;
    Ok(rows.first().map(|row| Duration::try_from_secs_f64(row.get(0)).unwrap_or_default()))
}

/// The result of one sweep for ready jobs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Companies with ready jobs, in order.
    pub(super) companies: Vec<CompanyId>,
    /// The company after which the next sweep begins; `None` if this one reached the end.
    pub(super) next_after: Option<CompanyId>,
}

/// Finds companies with ready jobs after the given one, reading at most `max` pairs of company and queue.
pub(super) async fn ready_companies(
    client: &impl GenericClient,
    queue: Queue,
    after: CompanyId,
    max: i64,
) -> Result<Sweep, Error> {
    let rows = query(client, include_str!("sql/ready_companies.sql"), &[&queue.name(), &after.0, &max]).await?;
    let ours = rows.iter().filter(|row| row.get(1));
    let companies = ours.map(|row| CompanyId(row.get(0))).collect();
    let next_after = rows.last().filter(|row| row.get(2)).map(|row| CompanyId(row.get(3)));
    Ok(Sweep { companies, next_after })
}

fn arrays<'a>(leases: impl Iterator<Item = &'a Lease>) -> (Vec<i64>, Vec<Uuid>, Vec<i64>) {
    let (mut companies, mut keys, mut fences) = (Vec::new(), Vec::new(), Vec::new());
    for lease in leases {
        companies.push(lease.company.0);
        keys.push(lease.key);
        fences.push(lease.fence);
    }
    (companies, keys, fences)
}

fn to_i32(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
