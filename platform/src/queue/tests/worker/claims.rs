//! Which jobs a worker claims, and when: caps, pauses, and no lost wake-ups.

use super::*;

fn jobs(company: i64, numbers: std::ops::Range<u128>, does: &str) -> Vec<NewJob> {
    numbers.map(|it| job(company, it, does)).collect()
}

#[tokio::test]
async fn two_workers_together_keep_to_a_companys_cap() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &jobs(1, 0..40, "slow")).await;
        let config = Config { company_cap: 2, ..config() };
        let workers = ["one", "two"].map(|it| start(database, it, config, &script));
        until_empty(database).await;
        for worker in workers {
            worker.stop().await;
        }
        assert_eq!((written(database).await, script.most_running()), (vec!["done | 1 | 40".into()], 2));
    })
    .await;
}

#[tokio::test]
async fn jobs_that_are_gone_do_not_count_against_a_companys_cap() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &jobs(1, 0..5, "gone")).await;
        let worker = start(database, "one", Config { company_cap: 2, ..config() }, &script);
        until_empty(database).await;
        enqueue(&database.service, &jobs(1, 5..8, "done")).await;
        until_empty(database).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_lane_of_jobs_that_are_gone_goes_on_without_waiting_for_a_sweep() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        let in_lane = |number, does| NewJob { lane: Some(key(7)), ..job(1, number, does) };
        let jobs =
            [in_lane(1, "gone"), in_lane(2, "gone"), in_lane(3, "known"), in_lane(4, "gone"), in_lane(5, "done")];
        enqueue(&database.service, &jobs).await;
        let worker = start(database, "one", Config { sweep_ms: NEVER_MS, ..config() }, &script);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(written(database).await, ["done | 1 | 1", "known | 1 | 1"]);
    })
    .await;
}

#[tokio::test]
async fn a_provider_gets_no_more_calls_at_once_than_its_cap() {
    in_a_scripted_database(async |database| {
        let script = Script::with_circuits(crate::queue::HoldLimit::SinceDue(TIMEOUT));
        enqueue(&database.service, &jobs(1, 0..6, "slow")).await;
        let worker = start(database, "one", Config { provider_cap: 1, sweep_ms: NEVER_MS, ..config() }, &script);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!((written(database).await, script.most_running()), (vec!["done | 1 | 6".into()], 1));
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_woken_for_every_job_whenever_it_is_enqueued() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        let worker = start(database, "one", Config { sweep_ms: NEVER_MS, ..config() }, &script);
        let producer = async |company: i64| {
            for number in 0..60 {
                let number = company as u128 * 1_000 + number;
                let lane = number.is_multiple_of(3).then(|| key(number % 7));
                enqueue(&database.service, &[NewJob { lane, ..job(company, number, "done") }]).await;
                worker.wake.ready([CompanyId(company)]);
                if number.is_multiple_of(5) {
                    until(database, &format!("select count(*) from jobs where company_id = {company}"), 0).await;
                }
            }
        };
        tokio::join!(producer(1), producer(2), producer(3), producer(4));
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(written(database).await, ["done | 1 | 240"]);
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_woken_for_scheduled_jobs() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        let worker = start(database, "one", Config { sweep_ms: NEVER_MS, ..config() }, &script);
        for number in 0..20 {
            let due = Due::After(Duration::from_millis(20));
            enqueue(&database.service, &[NewJob { due, ..job(1, number, "done") }]).await;
            worker.wake.enqueued([COMPANY]);
            until_empty(database).await;
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_full_window_starts_the_next_job_as_soon_as_a_slot_is_free() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &jobs(1, 0..30, "slow")).await;
        let worker = start(database, "one", Config { window: 2, sweep_ms: NEVER_MS, ..config() }, &script);
        until_empty(database).await;
        worker.stop().await;
        assert_eq!(script.most_running(), 2);
    })
    .await;
}

#[tokio::test]
async fn jobs_claimed_ahead_of_their_slot_are_not_called_after_a_stop() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        enqueue(&database.service, &[jobs(1, 0..600, "done"), jobs(1, 600..620, "wait")].concat()).await;
        // Long enough that no lease expires on a slow machine: its call would be made again.
        let worker = start(database, "one", Config { window: 8, lease_ms: 60_000, ..config() }, &script);
        // Hundreds of calls a second end, and are followed by calls that do not: jobs are claimed ahead of their slots.
        until(database, "select count(*) from jobs_running", 10).await;
        script.until_running(8).await;
        worker.stop.cancel();
        until(database, "select count(*) from jobs_running", 8).await;
        script.open(8);
        worker.stop().await;
        assert_eq!((script.most_running(), script.calls().len()), (8, 608));
        assert_eq!(database.rows("select count(*), max(attempts) from attempted").await, ["12 | 0"]);
        assert_eq!(database.number("select count(*) from jobs_running").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_paused_company_is_not_claimed_until_it_is_resumed() {
    in_a_scripted_database(async |database| {
        let script = Script::new();
        database.run("insert into queue_pauses (company_id, queue, paused_by) values (1, 'test', 'a test')").await;
        enqueue(&database.service, &[job(1, 1, "done"), job(2, 2, "done")]).await;
        let worker = start(database, "one", config(), &script);
        until(database, "select count(*) from jobs where company_id = 2", 0).await;
        enqueue(&database.service, &[job(2, 3, "done")]).await;
        worker.wake.ready([COMPANY, CompanyId(2)]);
        until(database, "select count(*) from jobs where company_id = 2", 0).await;
        assert_eq!((database.number("select count(*) from jobs_ready").await, script.calls()), (1, vec![2, 3]));
        database.run("delete from queue_pauses").await;
        until_empty(database).await;
        worker.stop().await;
    })
    .await;
}
