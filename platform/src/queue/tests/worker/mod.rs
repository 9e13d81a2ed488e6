//! The worker's loop on a real Postgres, with jobs whose bodies say how they end.

mod circuits;
mod claims;
mod ends;
mod leases;
mod script;

use script::{Script, Scripted};
use tokio::task::JoinHandle;

use super::invariants::is_consistent;
use super::*;
use crate::queue::{CircuitConfig, Config, Steps, Wake, Worker};
use crate::task::{self, Stop};
use crate::tests::database::{Database, in_a_database};

/// Longer than anything here takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A sweep interval that is too long for any test: jobs run only because the worker was woken.
const NEVER_MS: u64 = 60_000;

/// The tests' table of results.
const TABLES: &str = "
create table secretaria.written (
  company_id bigint not null,
  job_key uuid not null,
  word text not null check (word not in ('refused', 'refused_again')),
  attempts integer not null,
  after_s float8 not null
);
grant all on secretaria.written to secretaria_service;
create view secretaria.attempted as
select job_key, attempts from secretaria.jobs_scheduled union all select job_key, attempts from secretaria.jobs_ready";

fn config() -> Config {
    Config { lease_ms: 300, sweep_ms: 50, ..Config::default() }
}

/// A running worker.
struct Running {
    stop: Stop,
    wake: Wake,
    handle: JoinHandle<()>,
}

impl Running {
    /// Stops it and waits until it has ended.
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(TIMEOUT, self.handle).await.unwrap().unwrap();
    }
}

/// The steps of a worker without its loop.
fn steps(database: &Database, instance: &str, script: &Script) -> Steps<Scripted> {
    Steps::new(worker(database, instance, config(), script, Wake::default()))
}

fn worker(database: &Database, instance: &str, config: Config, script: &Script, wake: Wake) -> Worker<Scripted> {
    let (work, instance) = (Scripted::new(script, &database.service), instance.into());
    Worker { work, db: database.service.clone(), config, instance, wake }
}

fn start(database: &Database, instance: &str, config: Config, script: &Script) -> Running {
    let (stop, wake) = (Stop::new(), Wake::default());
    let worker = worker(database, instance, config, script, wake.clone());
    let handle = task::spawn("worker", worker.run(stop.clone()));
    Running { stop, wake, handle }
}

/// A database with the tests' own table.
async fn in_a_scripted_database(test: impl AsyncFnOnce(&Database)) {
    in_a_database(async |database| {
        database.run(TABLES).await;
        test(database).await;
        is_consistent(database).await;
    })
    .await;
}

/// A job whose body says what it does: see [`script`].
fn job(company: i64, number: u128, does: &str) -> NewJob {
    NewJob { body: serde_json::json!({ "does": does }), ..NewJob::new(CompanyId(company), key(number)) }
}

/// Waits until a query returns a number.
#[track_caller]
fn until(database: &Database, sql: &str, expected: i64) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let reached = async { while database.number(sql).await != expected {} };
        if tokio::time::timeout(TIMEOUT, reached).await.is_err() {
            let seen = database.number(sql).await;
            panic!("{caller}: {seen} instead of {expected}: {sql}");
        }
    }
}

/// Waits until so many results were written, of any kind.
#[track_caller]
fn until_written(database: &Database, results: i64) -> impl Future<Output = ()> {
    until(database, "select count(*) from written", results)
}

/// Waits until no job is left.
#[track_caller]
fn until_empty(database: &Database) -> impl Future<Output = ()> {
    until(database, "select count(*) from jobs", 0)
}

/// Results by name, with the attempts they took.
async fn written(database: &Database) -> Vec<String> {
    let sql = "select word, attempts, count(*) from written group by word, attempts order by word, attempts";
    database.rows(sql).await
}
