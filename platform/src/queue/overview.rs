//! Queues and jobs as an operator sees them. Only reads.

use std::time::Duration;

use domain::CompanyId;
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Queue;
use crate::postgres::{Db, Failure, query};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One line per queue.
    AllCompanies,
    /// A line per company that has jobs.
    EachCompany,
    Company(CompanyId),
}

/// How many jobs of a queue are in each state.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// The queue, whether or not this build knows it.
    pub queue: String,
    /// The company; `None` if all are added up.
    pub company: Option<CompanyId>,
    /// Jobs that are due later, or that became due and are not promoted yet.
    pub scheduled: i64,
    /// Jobs that may be claimed.
    pub ready: i64,
    /// Jobs that are due, behind others of their lane.
    pub waiting: i64,
    /// Jobs under a lease.
    pub running: i64,
    /// Jobs that are not attempted again.
    pub dead: i64,
    /// How long the oldest job that is due and not running has been due.
    pub oldest_due: Option<Duration>,
    /// Since when it is paused, and by which operator.
    pub paused: Option<(Timestamp, String)>,
    /// Companies of the queue that are paused individually.
    pub paused_companies: i64,
}

/// The queues; those in `known` first, even if they are empty.
///
/// # Errors
/// If Postgres is unavailable or refuses.
pub async fn overview(db: &Db, known: &[Queue], scope: Scope) -> Result<Vec<Totals>, Failure> {
    let names: Vec<&str> = known.iter().map(|it| it.name()).collect();
    let company = if let Scope::Company(company) = scope { Some(company.0) } else { None };
    let is_split = scope != Scope::AllCompanies;
    let rows = query(&db.get().await?, include_str!("sql/overview.sql"), &[&company, &is_split, &names]).await?;
    Ok(rows.iter().map(read_totals).collect())
}

fn read_totals(row: &Row) -> Totals {
    let paused_at: Option<Timestamp> = row.get(8);
    Totals {
        queue: row.get(0),
        company: row.get::<_, Option<i64>>(1).map(CompanyId),
        scheduled: row.get(2),
        ready: row.get(3),
        waiting: row.get(4),
        running: row.get(5),
        dead: row.get(6),
        oldest_due: row.get::<_, Option<f64>>(7).and_then(|it| Duration::try_from_secs_f64(it).ok()),
        paused: paused_at.zip(row.get(9)),
        paused_companies: row.get(10),
    }
}

/// A state of a job, by the name of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Scheduled,
    Ready,
    /// Behind others of its lane.
    Waiting,
    Running,
    Dead,
}

impl State {
    pub const ALL: [State; 5] = [State::Scheduled, State::Ready, State::Waiting, State::Running, State::Dead];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::Ready => "ready",
            State::Waiting => "waiting",
            State::Running => "running",
            State::Dead => "dead",
        }
    }
}

/// Which jobs; `None` does not restrict.
#[derive(Debug, Clone)]
pub struct Filter {
    pub queue: Option<Queue>,
    pub company: Option<CompanyId>,
    pub key: Option<Uuid>,
    pub state: Option<State>,
    pub limit: u32,
}

/// A job as an operator sees it: not its body.
#[derive(Debug, Clone)]
pub struct JobView {
    pub state: String,
    pub queue: String,
    pub company: CompanyId,
    pub key: Uuid,
    pub lane: Option<Uuid>,
    pub attempts: i32,
    /// When it may run, or could have run; `None` for a dead one.
    pub due_at: Option<Timestamp>,
    /// Its lease, if it is running.
    pub lease: Option<LeaseView>,
    /// Why and when it died.
    pub dead: Option<Death>,
}

/// A lease as an operator sees it.
#[derive(Debug, Clone)]
pub struct LeaseView {
    pub claimed_by: String,
    pub claimed_at: Timestamp,
    /// When it expires, unless it is renewed.
    pub until: Timestamp,
    /// Whether an operator has requested its end.
    pub cancel_requested: bool,
    /// How much is done, in thousandths, if the call reports it.
    pub progress_permille: Option<i16>,
}

/// Why and when a job died.
#[derive(Debug, Clone)]
pub struct Death {
    pub cause: String,
    pub detail: String,
    pub died_at: Timestamp,
}

/// Jobs: running ones first, dead ones last.
///
/// # Errors
/// If Postgres is unavailable or refuses.
pub async fn show(db: &Db, filter: &Filter) -> Result<Vec<JobView>, Failure> {
    let Filter { queue, company, key, state, limit } = filter;
    let rows = query(
        &db.get().await?,
        include_str!("sql/show.sql"),
        &[&queue.map(Queue::name), &company.map(|it| it.0), key, &state.map(State::as_str), &i64::from(*limit)],
    )
    .await?;
    Ok(rows.iter().map(read_job).collect())
}

fn read_job(row: &Row) -> JobView {
    let lease = |claimed_by| LeaseView {
        claimed_by,
        claimed_at: row.get(8),
        until: row.get(9),
        cancel_requested: row.get(10),
        progress_permille: row.get(11),
    };
    let death = |cause| Death { cause, detail: row.get(13), died_at: row.get(14) };
    JobView {
        state: row.get(0),
        queue: row.get(1),
        company: CompanyId(row.get(2)),
        key: row.get(3),
        lane: row.get(4),
        attempts: row.get(5),
        due_at: row.get(6),
        lease: row.get::<_, Option<String>>(7).map(lease),
        dead: row.get::<_, Option<String>>(12).map(death),
    }
}
