//! Several claimers: each job is claimed once, caps hold, and nothing is lost when a claimer crashes.

use std::collections::BTreeSet;

use super::*;

fn plain(numbers: std::ops::Range<u128>) -> Vec<NewJob> {
    numbers.map(|it| NewJob::new(COMPANY, key(it))).collect()
}

#[tokio::test]
async fn a_job_is_claimed_after_its_enqueuer_commits() {
    in_a_database(async |database| {
        with_two(database, async |enqueuing, claiming| {
            enqueue_in(&enqueuing, &plain(1..2)).await;
            assert!(claim_in(&claiming, 9).await.is_empty());
            enqueuing.commit().await.unwrap();
            assert_eq!(numbers(&claim_in(&claiming, 9).await), [1]);
            claiming.commit().await.unwrap();
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn two_claims_at_once_share_no_job_and_keep_to_their_limits() {
    in_a_database(async |database| {
        enqueue(&database.service, &plain(1..11)).await;
        with_two(database, async |one, two| {
            assert_eq!(numbers(&claim_in(&one, 3).await), [1, 2, 3]);
            assert_eq!(numbers(&claim_in(&two, 4).await), [4, 5, 6, 7], "it does not wait for the other one");
            assert_eq!(numbers(&claim_in(&one, 9).await), [8, 9, 10]);
            one.rollback().await.unwrap();
            two.commit().await.unwrap();
        })
        .await;
        assert_eq!(numbers(&claim(&database.service, 9).await), [1, 2, 3, 8, 9, 10]);
    })
    .await;
}

#[tokio::test]
async fn many_claimers_of_many_companies_claim_each_job_once() {
    in_a_database(async |database| {
        let companies: Vec<CompanyId> = (1..8).map(CompanyId).collect();
        let jobs: Vec<NewJob> = (0..280u128).map(|it| NewJob::new(companies[it as usize % 7], key(it))).collect();
        enqueue(&database.service, &jobs).await;
        let claimer = async || {
            let mut claimed = Vec::new();
            // Others may have locked the rest for a moment, so the rows decide when all jobs are claimed.
            while database.number("select count(*) from jobs_ready").await > 0 {
                let some = claim_of(&database.service, &companies, 5).await;
                assert!(some.len() <= 5, "{} jobs for 5 slots", some.len());
                claimed.extend(numbers(&some));
            }
            claimed
        };
        let claimed = tokio::join!(claimer(), claimer(), claimer(), claimer());
        let claimed = [claimed.0, claimed.1, claimed.2, claimed.3].concat();
        assert_eq!(claimed.len(), 280);
        assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>().len(), 280);
        is_consistent(database).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_claimer_had_locked_when_it_crashed_is_claimed_by_another() {
    in_a_database(async |database| {
        enqueue(&database.service, &[in_lane(1, 7), in_lane(2, 7)]).await;
        with_two(database, async |crashing, other| {
            assert_eq!(numbers(&claim_in(&crashing, 9).await), [1]);
            assert!(claim_in(&other, 9).await.is_empty());
            let pid: i32 = crashing.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
            database.run(&format!("select pg_terminate_backend({pid}, 10000)")).await;
            let again = claim_in(&other, 9).await;
            assert_eq!((numbers(&again), again[0].attempts), (vec![1], 1));
            other.commit().await.unwrap();
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_next_job_of_a_lane_is_claimed_after_the_commit_that_ends_the_one_before() {
    in_a_database(async |database| {
        enqueue(&database.service, &[in_lane(1, 7), in_lane(2, 7)]).await;
        let first = claim(&database.service, 1).await;
        with_two(database, async |finishing, claiming| {
            end_in(&finishing, &first[0], Ending::Done).await.unwrap();
            assert!(claim_in(&claiming, 9).await.is_empty());
            finishing.commit().await.unwrap();
            assert_eq!(numbers(&claim_in(&claiming, 9).await), [2]);
            claiming.commit().await.unwrap();
        })
        .await;
    })
    .await;
}

/// Claims like a worker: companies with a cap are locked first.
async fn claim_capped(tx: &Transaction<'_>, max: usize, cap: usize) -> Vec<Claimed> {
    let offers = [Offer { company: COMPANY, max, before: None }];
    store::lock_capped(tx, QUEUE, &offers, cap != usize::MAX).await.unwrap();
    store::claim(tx, QUEUE, &offers, max, LEASE, "two", cap).await.unwrap()
}

#[tokio::test]
async fn two_claims_at_once_keep_to_a_companys_cap_together() {
    for (row, cap) in [(true, usize::MAX), (false, 2)] {
        for commits in [true, false] {
            in_a_database(async |database| {
                if row {
                    database
                        .run("insert into queue_limits (company_id, queue, max_running) values (1, 'test', 2)")
                        .await;
                }
                enqueue(&database.service, &plain(1..6)).await;
                with_two(database, async |one, two| {
                    assert_eq!(claim_capped(&one, 9, cap).await.len(), 2);
                    let unblock = async { if commits { one.commit().await } else { one.rollback().await } };
                    let claimed = waits(database, &two, claim_capped(&two, 9, cap), unblock).await;
                    assert_eq!(claimed.len(), if commits { 0 } else { 2 });
                    two.commit().await.unwrap();
                })
                .await;
                assert_eq!(database.number("select count(*) from jobs_running").await, 2);
            })
            .await;
        }
    }
}

#[tokio::test]
async fn many_claimers_never_exceed_a_cap_and_run_everything() {
    in_a_database(async |database| {
        database.run("insert into queue_limits (company_id, queue, max_running) values (1, 'test', 3)").await;
        let db = &database.service;
        enqueue(db, &plain(1..61)).await;
        let claimer = async || {
            let mut ended = 0;
            while database.number("select count(*) from jobs").await > 0 {
                let claimed = in_tx(db, async |tx| {
                    store::prefer_indexes(tx).await.unwrap();
                    claim_capped(tx, 2, usize::MAX).await
                })
                .await;
                assert!(database.number("select count(*) from jobs_running").await <= 3);
                for job in &claimed {
                    assert!(end(db, job, Ending::Done).await);
                    ended += 1;
                }
            }
            ended
        };
        let ended = tokio::join!(claimer(), claimer(), claimer(), claimer());
        assert_eq!(ended.0 + ended.1 + ended.2 + ended.3, 60);
        is_consistent(database).await;
    })
    .await;
}

#[tokio::test]
async fn a_pause_stops_the_claims_of_a_company_or_of_the_whole_queue() {
    in_a_database(async |database| {
        enqueue(&database.service, &plain(1..3)).await;
        for company in [1, 0] {
            let pause =
                format!("insert into queue_pauses (company_id, queue, paused_by) values ({company}, 'test', 'x')");
            database.run(&pause).await;
            assert!(claim(&database.service, 9).await.is_empty());
            database.run("delete from queue_pauses").await;
        }
        assert_eq!(claim(&database.service, 9).await.len(), 2);
    })
    .await;
}
