//! What Postgres refuses affects one job only.

use super::*;

const SCHEDULED: &str = "select job_key, attempts, due_at > now() + interval '20 seconds' from jobs_scheduled";

#[tokio::test]
async fn in_a_group_with_a_refused_result_the_others_are_committed_and_that_one_is_replaced() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        let does = ["wait", "wait", "refused", "wait", "wait"];
        let jobs: Vec<NewJob> = (1..).zip(does).map(|(number, does)| job(1, number, does)).collect();
        enqueue(&database.service, &jobs).await;
        let worker = start(database, "one", config(), &script);
        script.until_running(5).await;
        script.open(5);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(written(database).await, ["done | 1 | 4", "instead | 1 | 1"]);
        assert_eq!(script.calls().len(), 5, "no call is made twice for it");
    })
    .await;
}

#[tokio::test]
async fn a_result_that_waits_for_a_lock_holds_up_no_other_company() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[NewJob { lane: Some(key(7)), ..job(1, 1, "done") }]).await;
        let mut other = database.service.get().await.unwrap();
        let held = other.transaction().await.unwrap();
        held.batch_execute("select from secretaria.job_lanes for update").await.unwrap();
        // Longer than a group waits for a lock: the lease cannot be renewed meanwhile.
        let worker = start(database, "one", Config { lease_ms: 60_000, ..config() }, &script);
        script.until_called(1).await;
        enqueue(&database.service, &[job(2, 2, "done")]).await;
        until(database, "select count(*) from jobs where company_id = 2", 0).await;
        assert_eq!(database.number("select count(*) from jobs").await, 1);
        held.commit().await.unwrap();
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(written(database).await, ["done | 1 | 2"]);
    })
    .await;
}

#[tokio::test]
async fn a_result_that_is_always_refused_is_postponed() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "refused_again"), job(1, 2, "done")]).await;
        let worker = start(database, "one", config(), &script);
        until_written(database, 1).await;
        until(database, "select count(*) from jobs_scheduled", 1).await;
        worker.stop().await;
        assert_eq!(database.rows(SCHEDULED).await, [format!("{} | 1 | t", key(1))]);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_cannot_be_loaded_is_postponed_and_the_others_go_on() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        let does = ["done", "done", "unloadable", "done", "done"];
        let jobs: Vec<NewJob> = (1..).zip(does).map(|(number, does)| job(1, number, does)).collect();
        enqueue(&database.service, &jobs).await;
        let worker = start(database, "one", config(), &script);
        until_written(database, 4).await;
        until(database, "select count(*) from jobs_scheduled", 1).await;
        worker.stop().await;
        assert_eq!(database.rows(SCHEDULED).await, [format!("{} | 1 | t", key(3))]);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_becomes_first_meanwhile_is_not_postponed_instead() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "overtaken")]).await;
        let worker = start(database, "one", config(), &script);
        until(database, "select count(*) from jobs_scheduled", 1).await;
        until_written(database, 1).await;
        worker.stop().await;
        assert_eq!(database.rows(SCHEDULED).await, [format!("{} | 1 | t", key(1))]);
    })
    .await;
}

#[tokio::test]
async fn a_panic_while_results_are_committed_does_not_stop_the_worker_and_their_jobs_are_retried() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        let worker = start(database, "one", config(), &script);
        for number in 1..5 {
            enqueue(&database.service, &[job(1, number, "finish_panics_once")]).await;
            until_empty(database).await;
        }
        worker.stop().await;
        assert_eq!(written(database).await, ["done | 2 | 4"]);
    })
    .await;
}
