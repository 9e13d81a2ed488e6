//! Leases are held while calls run; a call whose lease is lost or left is made again, once.

use super::*;
use crate::queue::{Change, cancel};

const RENEWED: &str = "select count(*) from jobs_running where lease_until > claimed_at + interval '900 milliseconds'";

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_its_call_runs() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "wait")]).await;
        let worker = start(database, "one", config(), &script);
        // Three times as long as the lease holds.
        until(database, RENEWED, 1).await;
        script.open(1);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!((written(database).await, script.calls()), (vec!["done | 1 | 1".into()], vec![1]));
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_lease_is_lost_is_aborted() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "hang_once")]).await;
        let worker = start(database, "one", config(), &script);
        script.until_running(1).await;
        database.run("update jobs_running set fence = fence + 1000, lease_until = now() + interval '1 hour'").await;
        script.until_aborted(1).await;
        worker.stop().await;
        assert_eq!(database.number("select count(*) from jobs_running").await, 1, "that of the other claim");
    })
    .await;
}

#[tokio::test]
async fn a_result_whose_lease_was_lost_is_discarded() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "wait"), job(2, 2, "wait")]).await;
        let worker = start(database, "one", Config { lease_ms: 60_000, ..config() }, &script);
        script.until_running(2).await;
        database.run("update jobs_running set fence = fence + 1000 where company_id = 1").await;
        script.open(2);
        until_written(database, 1).await;
        worker.stop().await;
        assert_eq!(database.rows("select company_id from written").await, ["2"]);
        assert_eq!(database.rows("select company_id from jobs_running").await, ["1"]);
    })
    .await;
}

#[tokio::test]
async fn a_panic_in_a_call_does_not_stop_the_worker_and_its_job_is_retried() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "panic_once"), job(1, 2, "done")]).await;
        let worker = start(database, "one", config(), &script);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(written(database).await, ["done | 1 | 1", "done | 2 | 1"]);
    })
    .await;
}

#[tokio::test]
async fn running_calls_end_and_are_committed_before_a_worker_stops() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "wait"), job(1, 2, "wait")]).await;
        let worker = start(database, "one", config(), &script);
        script.until_running(2).await;
        worker.stop.cancel();
        enqueue(&database.service, &[job(1, 3, "done")]).await;
        worker.wake.ready([COMPANY]);
        // Their leases are renewed while the worker waits for them.
        until(database, RENEWED, 2).await;
        script.open(2);
        worker.stop().await;
        assert_eq!(written(database).await, ["done | 1 | 2"]);
        assert_eq!(database.number("select count(*) from jobs_ready").await, 1, "nothing new was begun");
    })
    .await;
}

#[tokio::test]
async fn a_call_that_does_not_end_leaves_its_lease_to_another_worker() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "hang_once")]).await;
        let first = start(database, "one", Config { drain_ms: 50, ..config() }, &script);
        script.until_running(1).await;
        first.stop().await;
        script.until_aborted(1).await;
        assert_eq!(database.number("select count(*) from jobs_running").await, 1);
        let second = start(database, "two", config(), &script);
        until_empty(database).await;
        second.stop().await;
        assert_eq!(written(database).await, ["done | 2 | 1"]);
    })
    .await;
}

#[tokio::test]
async fn a_worker_reclaims_expired_leases_and_those_of_its_previous_run_at_once() {
    for (instance, lease) in [("two", Duration::ZERO), ("one", LEASE)] {
        in_a_scripted_database(async |database| {
            let script = Script::new();
            enqueue(&database.service, &[NewJob { lane: Some(key(7)), ..job(1, 1, "done") }]).await;
            in_tx(&database.service, async |tx| {
                let offers = [Offer { company: COMPANY, max: 1, before: None }];
                assert_eq!(store::claim(tx, QUEUE, &offers, 1, lease, "one", usize::MAX).await.unwrap().len(), 1);
            })
            .await;
            let worker = start(database, instance, config(), &script);
            until_empty(database).await;
            worker.stop().await;
            assert_eq!(written(database).await, ["done | 2 | 1"]);
        })
        .await;
    }
}

/// A job whose result Postgres refuses does not affect the others.
#[tokio::test]
async fn results_of_expired_leases_are_committed_and_reported_once() {
    for (refused, jobs_left) in [(false, 0), (true, 1)] {
        in_a_scripted_database(async |database| {
            let script = Script::with_result_for_expired();
            let mut jobs = vec![job(1, 1, "done"), job(1, 2, "gone"), job(2, 3, "known"), job(2, 4, "done")];
            jobs.extend(refused.then(|| job(1, 5, "known_refused")));
            enqueue(&database.service, &jobs).await;
            in_tx(&database.service, async |tx| {
                let offers = [1, 2].map(|it| Offer { company: CompanyId(it), max: 3, before: None });
                let claimed = store::claim(tx, QUEUE, &offers, 9, LEASE, "one", usize::MAX).await.unwrap();
                assert_eq!(claimed.len(), jobs.len());
            })
            .await;
            assert_eq!(steps(database, "one", &script).reclaim().await.unwrap(), jobs.len());
            assert_eq!(written(database).await, ["expired | 1 | 2", "known | 1 | 1"]);
            assert_eq!(script.committed(), [(1, "expired"), (3, "known"), (4, "expired")]);
            assert_eq!(database.number("select count(*) from jobs").await, jobs_left);
            assert_eq!(script.calls(), [0; 0]);
        })
        .await;
    }
}

#[tokio::test]
async fn a_running_job_reports_its_progress_and_is_notified_of_its_cancellation() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[job(1, 1, "cancellable")]).await;
        let worker = start(database, "one", config(), &script);
        until(database, "select count(*) from jobs_running where progress_permille = 420", 1).await;
        let change = in_tx(&database.service, async |tx| cancel(tx, QUEUE, COMPANY, key(1)).await.unwrap()).await;
        assert_eq!(change, Change::Running);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(written(database).await, ["cancelled | 1 | 1"]);
    })
    .await;
}
