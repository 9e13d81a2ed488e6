//! An operator's commands on a real Postgres, with the privileges of an operator.

use std::time::Duration;

use domain::CompanyId;
use uuid::Uuid;

use super::super::job::{Claimed, Due, Ending, NewJob};
use super::super::overview::{self, Filter, Scope, State};
use super::super::store::{self, EndedAttempt, Offer};
use super::super::{Change, Queue};
use super::{DeadFilter, Part, Resumed, Run, cancel_one, drop, pause, resume, retry};
use crate::postgres::{Config, Db, Transaction};
use crate::secret::SecretText;
use crate::tests::database::{Database, in_a_database};

const QUEUE: Queue = Queue::named("test");
const CLINIC: CompanyId = CompanyId(1);
const SALON: CompanyId = CompanyId(2);
const EVERYTHING: DeadFilter = DeadFilter { company: None, key: None, cause: None, limit: 100 };
const JOBS: Filter = Filter { queue: None, company: None, key: None, state: None, limit: 100 };

/// A pool of `secretaria_operator`.
async fn operator(database: &Database) -> Db {
    let sql = "select format('postgres://secretaria_operator@%s:%s/%s',
                 host(inet_server_addr()), inet_server_port(), current_database())";
    let url = database.rows(sql).await.remove(0);
    let config = Config { pool_size: 2, ..Config::default() };
    Db::new(&SecretText::from(url), &config, "operator test").unwrap()
}

fn key(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn in_lane(company: CompanyId, number: u128) -> NewJob {
    NewJob { lane: Some(key(7)), ..NewJob::new(company, key(number)) }
}

async fn in_tx<T>(db: &Db, work: impl AsyncFnOnce(&Transaction<'_>) -> T) -> T {
    let mut client = db.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let result = work(&tx).await;
    tx.commit().await.unwrap();
    result
}

async fn enqueue(database: &Database, jobs: &[NewJob]) {
    in_tx(&database.service, async |tx| store::enqueue(tx, QUEUE, jobs).await.unwrap()).await;
}

/// Claims all jobs of both companies that may be claimed.
async fn claim(database: &Database) -> Vec<Claimed> {
    let offers = [CLINIC, SALON].map(|company| Offer { company, max: 100, before: None });
    let lease = Duration::from_secs(60);
    in_tx(&database.service, async |tx| store::claim(tx, QUEUE, &offers, 100, lease, "one", usize::MAX).await.unwrap())
        .await
}

async fn end(database: &Database, job: &Claimed, ending: Ending) {
    in_tx(&database.service, async |tx| {
        assert_eq!(store::release(tx, QUEUE, &[job.lease]).await.unwrap().len(), 1);
        store::settle(tx, QUEUE, &[EndedAttempt { job, ending }]).await.unwrap();
    })
    .await;
}

/// Dead-letters all jobs that may be claimed.
async fn dead_letter_all(database: &Database, cause: &'static str) {
    for job in claim(database).await {
        end(database, &job, Ending::DeadLetter { cause, detail: "a test says so".into() }).await;
    }
}

fn numbers(jobs: &[Claimed]) -> Vec<u128> {
    jobs.iter().map(|it| it.lease.key.as_u128()).collect()
}

/// Queue, company, and how many are scheduled, ready, waiting, running and dead.
async fn totals(database: &Database, scope: Scope) -> Vec<String> {
    let totals = overview::overview(&operator(database).await, &[QUEUE], scope).await.unwrap();
    let line = |it: &overview::Totals| {
        let company = it.company.map_or("all".into(), |it| it.to_string());
        let paused = it.paused.as_ref().map_or("no", |it| &it.1);
        let counts = [it.scheduled, it.ready, it.waiting, it.running, it.dead].map(|it| it.to_string()).join(" ");
        format!("{} {company}: {counts}, paused {paused} and {}", it.queue, it.paused_companies)
    };
    totals.iter().map(line).collect()
}

#[tokio::test]
async fn a_paused_queue_or_company_is_not_claimed_until_it_is_resumed() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        enqueue(database, &[NewJob::new(CLINIC, key(1)), NewJob::new(SALON, key(2))]).await;
        assert!(pause(&operator, QUEUE, Part::Company(SALON), "ana").await.unwrap());
        assert!(!pause(&operator, QUEUE, Part::Company(SALON), "rui").await.unwrap());
        assert_eq!(numbers(&claim(database).await), [1]);

        assert!(pause(&operator, QUEUE, Part::Whole, "rui").await.unwrap());
        enqueue(database, &[NewJob::new(CLINIC, key(3))]).await;
        assert_eq!(numbers(&claim(database).await), [0; 0]);
        assert_eq!(totals(database, Scope::AllCompanies).await, ["test all: 0 2 0 1 0, paused rui and 1"]);
        let each = ["test 1: 0 1 0 1 0, paused rui and 0", "test 2: 0 1 0 0 0, paused ana and 0"];
        assert_eq!(totals(database, Scope::EachCompany).await, each);

        let resumed = resume(&operator, QUEUE, Part::Company(SALON)).await.unwrap();
        assert_eq!(resumed, Resumed { was_paused: true, whole_is_paused: true, paused_companies: 0 });
        assert_eq!(numbers(&claim(database).await), [0; 0]);
        let resumed = resume(&operator, QUEUE, Part::Whole).await.unwrap();
        assert_eq!(resumed, Resumed { was_paused: true, whole_is_paused: false, paused_companies: 0 });
        let mut claimed = numbers(&claim(database).await);
        claimed.sort_unstable();
        assert_eq!(claimed, [2, 3]);
        let resumed = resume(&operator, QUEUE, Part::Whole).await.unwrap();
        assert!(!resumed.was_paused);
    })
    .await;
}

#[tokio::test]
async fn the_time_of_a_pause_counts_as_waiting() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        let later = Due::After(Duration::from_secs(3_600));
        enqueue(database, &[NewJob { due: later, ..in_lane(CLINIC, 1) }]).await;
        pause(&operator, QUEUE, Part::Whole, "ana").await.unwrap();
        let two_hours_on = "update jobs_scheduled set due_at = due_at - interval '2 hours';
                            update jobs set due_at = due_at - interval '2 hours'";
        database.run(two_hours_on).await;
        let (moved, _) = in_tx(&database.service, async |tx| store::promote(tx, QUEUE, 100).await.unwrap()).await;
        assert_eq!(moved, 1, "what falls due during a pause becomes ready");
        assert_eq!(numbers(&claim(database).await), [0; 0]);
        database.conserves().await;
        resume(&operator, QUEUE, Part::Whole).await.unwrap();
        let claimed = claim(database).await;
        assert_eq!(numbers(&claimed), [1]);
        assert!(claimed[0].overdue >= Duration::from_secs(3_600), "overdue by {:?}", claimed[0].overdue);
    })
    .await;
}

#[tokio::test]
async fn a_pause_of_a_company_without_jobs_is_listed_and_so_is_a_queue_that_no_build_knows() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        pause(&operator, QUEUE, Part::Company(SALON), "ana").await.unwrap();
        assert_eq!(totals(database, Scope::EachCompany).await, ["test 2: 0 0 0 0 0, paused ana and 0"]);
        assert_eq!(totals(database, Scope::Company(SALON)).await, ["test 2: 0 0 0 0 0, paused ana and 0"]);
        assert_eq!(totals(database, Scope::Company(CLINIC)).await, ["test 1: 0 0 0 0 0, paused no and 0"]);
        in_tx(&database.service, async |tx| {
            store::enqueue(tx, Queue::named("older"), &[NewJob::new(CLINIC, key(1))]).await.unwrap();
        })
        .await;
        let expected = ["test all: 0 0 0 0 0, paused no and 1", "older all: 0 1 0 0 0, paused no and 0"];
        assert_eq!(totals(database, Scope::AllCompanies).await, expected);
    })
    .await;
}

#[tokio::test]
async fn jobs_are_shown_in_every_state() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        let gone = NewJob::new(CLINIC, key(1));
        enqueue(database, std::slice::from_ref(&gone)).await;
        dead_letter_all(database, "too_often").await;
        enqueue(database, &[in_lane(CLINIC, 2), in_lane(CLINIC, 3)]).await;
        claim(database).await;
        let later = Due::After(Duration::from_secs(3_600));
        enqueue(database, &[NewJob { due: later, ..NewJob::new(CLINIC, key(4)) }, NewJob::new(SALON, key(5))]).await;

        let shown = overview::show(&operator, &JOBS).await.unwrap();
        let lines: Vec<String> = shown.iter().map(|it| format!("{} {}", it.state, it.key.as_u128())).collect();
        assert_eq!(lines, ["running 2", "ready 5", "waiting 3", "scheduled 4", "dead 1"]);
        let running = &shown[0];
        let lease = running.lease.as_ref().unwrap();
        assert_eq!((running.attempts, running.lane, lease.claimed_by.as_str()), (1, Some(key(7)), "one"));
        assert!(lease.until > lease.claimed_at && !lease.cancel_requested);
        let death = shown[4].dead.as_ref().unwrap();
        assert_eq!((death.cause.as_str(), death.detail.as_str()), ("too_often", "a test says so"));

        let shown = async |filter: Filter| overview::show(&operator, &filter).await.unwrap().len();
        assert_eq!(shown(Filter { company: Some(SALON), ..JOBS }).await, 1);
        assert_eq!(shown(Filter { key: Some(key(3)), ..JOBS }).await, 1);
        assert_eq!(shown(Filter { state: Some(State::Waiting), ..JOBS }).await, 1);
        assert_eq!(shown(Filter { queue: Some(Queue::named("other")), ..JOBS }).await, 0);
        assert_eq!(shown(Filter { limit: 2, ..JOBS }).await, 2);
    })
    .await;
}

#[tokio::test]
async fn one_job_is_cancelled_by_its_key_and_the_end_of_a_running_one_is_requested() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        enqueue(database, &[in_lane(CLINIC, 1), in_lane(CLINIC, 2), in_lane(CLINIC, 3)]).await;
        claim(database).await;
        assert_eq!(cancel_one(&operator, QUEUE, CLINIC, key(2)).await.unwrap(), Change::Made);
        assert_eq!(cancel_one(&operator, QUEUE, CLINIC, key(2)).await.unwrap(), Change::Missing);
        assert_eq!(cancel_one(&operator, QUEUE, SALON, key(1)).await.unwrap(), Change::Missing);
        assert_eq!(cancel_one(&operator, QUEUE, CLINIC, key(1)).await.unwrap(), Change::Running);
        let running = Filter { state: Some(State::Running), ..JOBS };
        let shown = overview::show(&operator, &running).await.unwrap();
        assert!(shown[0].lease.as_ref().unwrap().cancel_requested);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn dead_jobs_are_enqueued_again_as_they_were() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        let body = serde_json::json!({ "remind": "tomorrow" });
        let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        let job = NewJob { body: body.clone(), traceparent: trace.clone(), ..in_lane(CLINIC, 1) };
        enqueue(database, &[job]).await;
        dead_letter_all(database, "too_often").await;
        let dry = retry(&operator, QUEUE, &EVERYTHING, Run::Dry).await.unwrap();
        assert_eq!((dry.len(), dry[0].attempts, dry[0].is_live), (1, 1, false));
        assert_eq!(numbers(&claim(database).await), [0; 0]);

        let retried = retry(&operator, QUEUE, &EVERYTHING, Run::Real).await.unwrap();
        assert_eq!(retried, dry);
        let claimed = claim(database).await;
        let again = &claimed[0];
        assert_eq!((&again.body, &again.traceparent, again.lane, again.attempts), (&body, &trace, Some(key(7)), 1));
        assert_eq!(retry(&operator, QUEUE, &EVERYTHING, Run::Real).await.unwrap(), []);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_dead_job_whose_key_is_live_again_is_left() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        enqueue(database, &[NewJob::new(CLINIC, key(1))]).await;
        dead_letter_all(database, "too_often").await;
        enqueue(database, &[NewJob::new(CLINIC, key(1))]).await;
        let retried = retry(&operator, QUEUE, &EVERYTHING, Run::Real).await.unwrap();
        assert!(retried[0].is_live);
        assert_eq!(totals(database, Scope::AllCompanies).await, ["test all: 0 1 0 0 1, paused no and 0"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn dead_jobs_are_dropped_by_company_cause_and_key() {
    in_a_database(async |database| {
        let operator = operator(database).await;
        enqueue(database, &[NewJob::new(CLINIC, key(1)), NewJob::new(SALON, key(2))]).await;
        dead_letter_all(database, "too_often").await;
        enqueue(database, &[NewJob::new(CLINIC, key(3)), NewJob::new(CLINIC, key(4))]).await;
        dead_letter_all(database, "refused").await;
        let dropped = async |filter: DeadFilter, run: Run| -> Vec<u128> {
            let mut dropped: Vec<u128> =
                drop(&operator, QUEUE, &filter, run).await.unwrap().iter().map(|it| it.key.as_u128()).collect();
            dropped.sort_unstable();
            dropped
        };
        assert_eq!(dropped(DeadFilter { company: Some(SALON), ..EVERYTHING }, Run::Real).await, [2]);
        let refused = DeadFilter { cause: Some("refused".into()), ..EVERYTHING };
        assert_eq!(dropped(refused, Run::Dry).await, [3, 4]);
        assert_eq!(dropped(DeadFilter { key: Some(key(3)), ..EVERYTHING }, Run::Real).await, [3]);
        assert_eq!(dropped(DeadFilter { limit: 1, ..EVERYTHING }, Run::Dry).await, [1]);
        assert_eq!(dropped(EVERYTHING, Run::Real).await, [1, 4]);
        assert_eq!(totals(database, Scope::AllCompanies).await, ["test all: 0 0 0 0 0, paused no and 0"]);
    })
    .await;
}
