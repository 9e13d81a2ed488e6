//! On one connection: states, lanes, fairness, changes by key.

use super::invariants::is_consistent;
use super::*;
use crate::queue::{Change, cancel, reschedule};
use crate::tests::database::in_a_database;

#[tokio::test]
async fn a_lane_runs_one_job_at_a_time_and_in_order() {
    in_a_database(async |database| {
        let db = &database.service;
        let enqueued = enqueue(db, &[in_lane(1, 7), in_lane(2, 7), in_lane(3, 8)]).await;
        assert_eq!(enqueued, Enqueued { added: 3, ready: 2 });
        let first = claim(db, 10).await;
        assert_eq!(numbers(&first), [1, 3]);
        assert!(end(db, &first[0], Ending::Retry(Duration::ZERO)).await);
        assert!(claim(db, 10).await.is_empty(), "the second waits for the first one's retry");
        assert_eq!(promote(db).await, 1);
        let again = claim(db, 10).await;
        assert_eq!((numbers(&again), again[0].attempts), (vec![1], 2));
        assert!(end(db, &again[0], Ending::Done).await);
        let second = claim(db, 10).await;
        assert_eq!(numbers(&second), [2]);
        assert!(end(db, &second[0], Ending::Done).await);
        assert!(end(db, &first[1], Ending::Done).await);
        assert_eq!(database.number("select count(*) from secretaria.jobs").await, 0);
        assert_eq!(database.number("select count(*) from secretaria.job_lanes").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_live_key_is_enqueued_once() {
    in_a_database(async |database| {
        let db = &database.service;
        let job = || NewJob::new(COMPANY, key(1));
        assert_eq!(enqueue(db, &[job(), job()]).await.added, 1);
        assert_eq!(enqueue(db, &[job()]).await.added, 0);
        let claimed = claim(db, 10).await;
        assert_eq!(enqueue(db, &[job()]).await.added, 0);
        assert!(end(db, &claimed[0], Ending::Done).await);
        assert_eq!(enqueue(db, &[job()]).await.added, 1);
    })
    .await;
}

#[tokio::test]
async fn a_result_counts_only_under_the_latest_lease() {
    in_a_database(async |database| {
        let db = &database.service;
        enqueue(db, &[in_lane(1, 7)]).await;
        let first = claim(db, 1).await;
        assert!(end(db, &first[0], Ending::Retry(Duration::ZERO)).await);
        promote(db).await;
        let second = claim(db, 1).await;
        assert!(!end(db, &first[0], Ending::Done).await, "its lease was released");
        assert!(end(db, &second[0], Ending::Done).await);
    })
    .await;
}

#[tokio::test]
async fn a_slot_goes_to_the_company_with_the_fewest_in_flight_however_old_the_backlog_of_another_is() {
    in_a_database(async |database| {
        let db = &database.service;
        let (big, small) = (CompanyId(1), CompanyId(2));
        let of = |company: CompanyId, from: u128, jobs: u128| -> Vec<NewJob> {
            (from..from + jobs).map(|it| NewJob::new(company, key(it))).collect()
        };
        enqueue(db, &of(big, 0, 300)).await;
        enqueue(db, &of(small, 1_000, 300)).await;
        // Slots that become free one at a time: each claim is of one job.
        let mut claims = std::collections::BTreeMap::new();
        for _ in 0..200 {
            let claimed = claim_of(db, &[big, small], 1).await;
            *claims.entry(claimed[0].company()).or_insert(0) += 1;
        }
        assert_eq!(claims, [(big, 100), (small, 100)].into());
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_not_due_holds_no_lane_and_one_with_a_retry_keeps_it() {
    in_a_database(async |database| {
        let db = &database.service;
        enqueue(db, &[NewJob { due: after(3_600), ..in_lane(1, 7) }]).await;
        enqueue(db, &[in_lane(2, 7)]).await;
        let second = claim(db, 10).await;
        assert_eq!(numbers(&second), [2]);
        assert!(end(db, &second[0], Ending::Retry(Duration::from_secs(3_600))).await);
        enqueue(db, &[in_lane(3, 7)]).await;
        assert!(claim(db, 10).await.is_empty(), "the lane waits for its retry");
    })
    .await;
}

#[tokio::test]
async fn a_job_is_rescheduled_and_cancelled_by_its_key_in_every_state() {
    in_a_database(async |database| {
        let db = &database.service;
        let reschedule = async |number, due| {
            in_tx(db, async |tx| reschedule(tx, QUEUE, COMPANY, key(number), due).await.unwrap()).await
        };
        let cancel = async |number| in_tx(db, async |tx| cancel(tx, QUEUE, COMPANY, key(number)).await.unwrap()).await;
        assert_eq!(reschedule(1, Due::Now).await, Change::Missing);
        enqueue(db, &[NewJob { due: after(3_600), ..in_lane(1, 7) }, in_lane(2, 8), in_lane(3, 8), in_lane(4, 8)])
            .await;
        assert_eq!(reschedule(1, Due::Now).await, Change::Made);
        assert_eq!(promote(db).await, 1);
        assert_eq!(reschedule(2, after(3_600)).await, Change::Made, "a ready one");
        assert_eq!(numbers(&claim(db, 10).await), [1], "lane 8 waits for its head");
        assert_eq!(reschedule(1, Due::Now).await, Change::Running);
        assert_eq!(cancel(1).await, Change::Running);
        assert_eq!(database.number("select count(*) from secretaria.jobs_running where cancel_requested").await, 1);
        assert_eq!(cancel(3).await, Change::Made, "a waiting one");
        assert_eq!(cancel(2).await, Change::Made, "a head: its lane goes on");
        assert_eq!(numbers(&claim(db, 10).await), [4]);
        assert_eq!(cancel(9).await, Change::Missing);
        assert_eq!(database.number("select sum(jobs) from secretaria.job_lanes").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_periodic_job_is_enqueued_once_per_tick() {
    in_a_database(async |database| {
        let db = &database.service;
        let periodic = crate::queue::Periodic { name: "nightly", every: Duration::from_secs(60) };
        let begin =
            async |tick: &str| crate::queue::begin_tick(db, QUEUE, &periodic, tick.parse().unwrap()).await.unwrap();
        assert!(begin("2026-11-01T10:00:00Z").await);
        assert!(!begin("2026-11-01T10:00:00Z").await);
        assert!(!begin("2026-11-01T09:59:00Z").await, "a late process");
        assert!(begin("2026-11-01T10:01:00Z").await);
        assert_eq!(claim_of(db, &[CompanyId::NONE], 10).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_dead_job_waits_for_an_operator_and_its_lane_goes_on() {
    in_a_database(async |database| {
        let db = &database.service;
        enqueue(db, &[in_lane(1, 7), in_lane(2, 7)]).await;
        let first = claim(db, 1).await;
        let ending = Ending::DeadLetter { cause: "spent", detail: "tried once".into() };
        assert!(end(db, &first[0], ending).await);
        assert_eq!(database.number("select count(*) from secretaria.jobs_dead where cause = 'spent'").await, 1);
        assert_eq!(numbers(&claim(db, 1).await), [2]);
    })
    .await;
}

#[tokio::test]
async fn sweeps_for_ready_jobs_go_on_past_the_jobs_of_other_queues_to_the_end() {
    in_a_database(async |database| {
        let db = &database.service;
        let of = |company| NewJob::new(CompanyId(company), key(1));
        in_tx(db, async |tx| {
            let (earlier, later) = (Queue::named("earlier"), Queue::named("zzz"));
            store::enqueue(tx, earlier, &(1..=9).map(of).collect::<Vec<_>>()).await.unwrap();
            store::enqueue(tx, later, &(1..=9).map(of).collect::<Vec<_>>()).await.unwrap();
        })
        .await;
        enqueue(db, &[of(3), of(6), of(9), of(12)]).await;
        let client = db.get().await.unwrap();
        for max in 3..30 {
            let (mut after, mut found) = (CompanyId(i64::MIN), Vec::new());
            loop {
                let sweep = store::ready_companies(&client, QUEUE, after, max).await.unwrap();
                found.extend(sweep.companies.iter().map(|it| it.0));
                match sweep.next_after {
                    Some(next) => after = next,
                    None => break,
                }
            }
            assert_eq!(found, [3, 6, 9, 12], "{max} pairs at a time");
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_held_back_is_as_late_as_before_and_not_attempted() {
    in_a_database(async |database| {
        let db = &database.service;
        let due = |at: &str| Due::At(at.parse().unwrap());
        let (early, late) = (due("2026-01-01T10:00:00Z"), due("2026-01-01T11:00:00Z"));
        enqueue(db, &[NewJob { due: early, ..in_lane(1, 7) }, NewJob { due: late, ..in_lane(2, 8) }]).await;
        let claimed = claim(db, 1).await;
        assert_eq!(numbers(&claimed), [1]);
        assert!(end(db, &claimed[0], Ending::HeldBack(Duration::ZERO)).await);
        assert_eq!(promote(db).await, 1);
        let again = claim(db, 2).await;
        assert_eq!(numbers(&again), [1, 2], "it comes first again");
        assert_eq!((again[0].due_at, again[0].attempts), (claimed[0].due_at, 1));
        assert!(again[0].overdue >= claimed[0].overdue);
        assert!(end(db, &again[0], Ending::Retry(Duration::ZERO)).await);
        promote(db).await;
        assert!(claim(db, 1).await[0].due_at > claimed[0].due_at, "a retry is due when it is due");
        is_consistent(database).await;
    })
    .await;
}
