//! A transaction that adds a job to a lane, and one that ends the lane's last job, must see each other.

use super::*;
use crate::queue::Periodic;
use crate::queue::begin_tick;

/// Job 1 runs at the head of lane 7.
async fn head(database: &Database) -> Claimed {
    enqueue(&database.service, &[in_lane(1, 7)]).await;
    claim(&database.service, 1).await.remove(0)
}

#[tokio::test]
async fn a_job_enqueued_while_the_last_job_of_its_lane_ends_is_ready() {
    in_a_database(async |database| {
        let first = head(database).await;
        with_two(database, async |finishing, enqueuing| {
            assert!(end_in(&finishing, &first, Ending::Done).await.unwrap());
            let enqueued = enqueue_in(&enqueuing, [in_lane(2, 7)]);
            let enqueued = waits(database, &enqueuing, enqueued, finishing.commit()).await;
            assert_eq!(enqueued, Enqueued { added: 1, ready: 1 });
            enqueuing.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn a_lane_passes_to_a_job_whose_enqueuer_commits_meanwhile() {
    in_a_database(async |database| {
        let first = head(database).await;
        with_two(database, async |enqueuing, finishing| {
            assert_eq!(enqueue_in(&enqueuing, [in_lane(2, 7)]).await, Enqueued { added: 1, ready: 0 });
            let ended = end_in(&finishing, &first, Ending::Done);
            assert!(waits(database, &finishing, ended, enqueuing.commit()).await.unwrap());
            finishing.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn an_enqueuer_that_rolls_back_leaves_the_lane_as_it_was() {
    in_a_database(async |database| {
        let first = head(database).await;
        with_two(database, async |enqueuing, finishing| {
            enqueue_in(&enqueuing, [in_lane(2, 7)]).await;
            let ended = end_in(&finishing, &first, Ending::Done);
            assert!(waits(database, &finishing, ended, enqueuing.rollback()).await.unwrap());
            finishing.commit().await.unwrap();
        })
        .await;
        assert_eq!(database.number("select count(*) from job_lanes").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_job_enqueued_while_an_end_rolls_back_waits() {
    in_a_database(async |database| {
        let first = head(database).await;
        with_two(database, async |finishing, enqueuing| {
            end_in(&finishing, &first, Ending::Done).await.unwrap();
            let enqueued = enqueue_in(&enqueuing, [in_lane(2, 7)]);
            let enqueued = waits(database, &enqueuing, enqueued, finishing.rollback()).await;
            assert_eq!(enqueued.ready, 0);
            enqueuing.commit().await.unwrap();
        })
        .await;
        assert!(claim(&database.service, 1).await.is_empty());
        assert!(end(&database.service, &first, Ending::Done).await);
        assert_eq!(finish_all(database).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn jobs_of_one_lane_run_in_the_order_of_their_commits() {
    for commits in [true, false] {
        in_a_database(async |database| {
            with_two(database, async |one, two| {
                enqueue_in(&one, [in_lane(9, 7), in_lane(8, 7)]).await;
                let enqueued = enqueue_in(&two, [in_lane(2, 7), in_lane(1, 7)]);
                let unblock = async { if commits { one.commit().await } else { one.rollback().await } };
                let enqueued = waits(database, &two, enqueued, unblock).await;
                assert_eq!(enqueued.ready, usize::from(!commits));
                two.commit().await.unwrap();
            })
            .await;
            let expected: &[u128] = if commits { &[9, 8, 2, 1] } else { &[2, 1] };
            assert_eq!(finish_all(database).await, expected);
        })
        .await;
    }
}

#[tokio::test]
async fn a_key_is_enqueued_by_the_second_where_the_first_rolls_back() {
    for commits in [true, false] {
        in_a_database(async |database| {
            with_two(database, async |one, two| {
                enqueue_in(&one, [in_lane(1, 7)]).await;
                let enqueued = enqueue_in(&two, [in_lane(1, 7)]);
                let unblock = async { if commits { one.commit().await } else { one.rollback().await } };
                let enqueued = waits(database, &two, enqueued, unblock).await;
                assert_eq!(enqueued.added, usize::from(!commits));
                two.commit().await.unwrap();
            })
            .await;
            assert_eq!(finish_all(database).await, [1]);
        })
        .await;
    }
}

#[tokio::test]
async fn a_key_enqueued_while_its_job_ends_is_a_new_job() {
    in_a_database(async |database| {
        let first = head(database).await;
        with_two(database, async |finishing, enqueuing| {
            end_in(&finishing, &first, Ending::Done).await.unwrap();
            let enqueued = enqueue_in(&enqueuing, [in_lane(1, 7)]);
            let enqueued = waits(database, &enqueuing, enqueued, finishing.commit()).await;
            assert_eq!(enqueued, Enqueued { added: 1, ready: 1 });
            enqueuing.commit().await.unwrap();
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn lanes_are_locked_in_the_order_of_their_key_however_they_are_asked_for() {
    in_a_database(async |database| {
        with_two(database, async |one, two| {
            enqueue_in(&one, [in_lane(1, 7)]).await;
            let enqueued = enqueue_in(&two, [in_lane(2, 8), in_lane(3, 7)]);
            // Lane 8 comes after 7, so the one that waits for 7 does not hold it.
            let unblock = async {
                assert_eq!(enqueue_in(&one, [in_lane(4, 8)]).await.ready, 1);
                one.commit().await
            };
            assert_eq!(waits(database, &two, enqueued, unblock).await.ready, 0);
            two.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [1, 4, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn transactions_that_lock_lanes_in_opposite_orders_do_not_both_fail() {
    in_a_database(async |database| {
        with_two(database, async |one, two| {
            enqueue_in(&one, [in_lane(1, 7)]).await;
            enqueue_in(&two, [in_lane(2, 8)]).await;
            let (jobs_of_one, jobs_of_two) = ([in_lane(3, 8)], [in_lane(4, 7)]);
            let of_one = async {
                let enqueued = store::enqueue(&one, QUEUE, &jobs_of_one).await;
                if enqueued.is_ok() {
                    one.commit().await.map(drop)
                } else {
                    one.rollback().await.and(enqueued.map(drop))
                }
            };
            let of_two = async {
                let enqueued = store::enqueue(&two, QUEUE, &jobs_of_two).await;
                if enqueued.is_ok() {
                    two.commit().await.map(drop)
                } else {
                    two.rollback().await.and(enqueued.map(drop))
                }
            };
            let (of_one, of_two) = tokio::join!(of_one, of_two);
            let failed: Vec<Error> = [of_one, of_two].into_iter().filter_map(Result::err).collect();
            let codes: Vec<&str> = failed.iter().map(|it| it.code().unwrap().code()).collect();
            assert_eq!(codes, ["40P01"], "one of them is to be retried");
        })
        .await;
        let again = [in_lane(1, 7), in_lane(2, 8), in_lane(3, 8), in_lane(4, 7)];
        assert_eq!(enqueue(&database.service, &again).await.added, 2);
        is_consistent(database).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_promoted_while_the_last_job_of_its_lane_ends_is_ready() {
    in_a_database(async |database| {
        let first = head(database).await;
        enqueue_overdue(database, &[in_lane(2, 7)]).await;
        with_two(database, async |finishing, promoting| {
            end_in(&finishing, &first, Ending::Done).await.unwrap();
            assert_eq!(waits(database, &promoting, promote_in(&promoting), finishing.commit()).await, 1);
            promoting.commit().await.unwrap();
        })
        .await;
        assert_eq!(numbers(&claim(&database.service, 9).await), [2]);
    })
    .await;
}

#[tokio::test]
async fn a_lane_passes_to_a_job_that_is_promoted_meanwhile() {
    for commits in [true, false] {
        in_a_database(async |database| {
            let first = head(database).await;
            enqueue_overdue(database, &[in_lane(2, 7)]).await;
            with_two(database, async |promoting, finishing| {
                assert_eq!(promote_in(&promoting).await, 1);
                let unblock = async { if commits { promoting.commit().await } else { promoting.rollback().await } };
                let ended = end_in(&finishing, &first, Ending::Done);
                assert!(waits(database, &finishing, ended, unblock).await.unwrap());
                finishing.commit().await.unwrap();
            })
            .await;
            assert_eq!(claim(&database.service, 9).await.len(), usize::from(commits));
            assert_eq!(promote(&database.service).await, usize::from(!commits));
        })
        .await;
    }
}

#[tokio::test]
async fn a_promotion_and_an_enqueuer_of_one_lane_follow_one_another() {
    for promotes_first in [true, false] {
        in_a_database(async |database| {
            enqueue_overdue(database, &[in_lane(1, 7)]).await;
            with_two(database, async |one, two| {
                if promotes_first {
                    promote_in(&one).await;
                    let enqueued = enqueue_in(&two, [in_lane(2, 7)]);
                    assert_eq!(waits(database, &two, enqueued, one.commit()).await.ready, 0);
                } else {
                    enqueue_in(&one, [in_lane(2, 7)]).await;
                    assert_eq!(waits(database, &two, promote_in(&two), one.commit()).await, 1);
                }
                two.commit().await.unwrap();
            })
            .await;
            assert_eq!(finish_all(database).await, if promotes_first { [1, 2] } else { [2, 1] });
        })
        .await;
    }
}

#[tokio::test]
async fn a_retry_promoted_while_others_are_enqueued_stays_first_of_its_lane() {
    in_a_database(async |database| {
        let first = head(database).await;
        with_two(database, async |finishing, enqueuing| {
            end_in(&finishing, &first, Ending::Retry(Duration::ZERO)).await.unwrap();
            assert_eq!(enqueue_in(&enqueuing, [in_lane(2, 7)]).await.ready, 0, "no lock of the lane is needed");
            enqueuing.commit().await.unwrap();
            finishing.commit().await.unwrap();
        })
        .await;
        with_two(database, async |promoting, enqueuing| {
            assert_eq!(promote_in(&promoting).await, 1);
            enqueue_in(&enqueuing, [in_lane(3, 7)]).await;
            enqueuing.commit().await.unwrap();
            promoting.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [1, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn jobs_are_promoted_once_by_several_processes() {
    in_a_database(async |database| {
        enqueue_overdue(database, &[in_lane(1, 7), in_lane(2, 8), in_lane(3, 8)]).await;
        with_two(database, async |one, two| {
            assert_eq!(store::promote(&one, QUEUE, 1).await.unwrap().0, 1);
            assert_eq!(promote_in(&two).await, 2, "it does not wait for what the other one moves");
            assert_eq!(promote_in(&one).await, 0);
            two.commit().await.unwrap();
            one.rollback().await.unwrap();
        })
        .await;
        assert_eq!(promote(&database.service).await, 1);
        assert_eq!(finish_all(database).await.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_tick_begins_once_however_many_processes_begin_it_at_once() {
    in_a_database(async |database| {
        let periodic = Periodic { name: "nightly", every: Duration::from_secs(60) };
        for minute in 10..30 {
            let tick = format!("2026-11-01T10:{minute}:00Z").parse().unwrap();
            let begin = || begin_tick(&database.service, QUEUE, &periodic, tick);
            let began = tokio::join!(begin(), begin(), begin());
            let began = [began.0.unwrap(), began.1.unwrap(), began.2.unwrap()];
            assert_eq!(began.iter().filter(|it| **it).count(), 1, "{tick}");
        }
        assert_eq!(database.number("select count(*) from jobs").await, 20);
        is_consistent(database).await;
    })
    .await;
}
