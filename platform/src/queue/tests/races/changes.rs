//! Rescheduling and cancelling by key, against everything that changes the job's state meanwhile.

use super::*;
use crate::queue::{Change, cancel, reschedule};

async fn cancel_in(tx: &Transaction<'_>, number: u128) -> Change {
    cancel(tx, QUEUE, COMPANY, key(number)).await.unwrap()
}

async fn reschedule_in(tx: &Transaction<'_>, number: u128, due: Due) -> Change {
    reschedule(tx, QUEUE, COMPANY, key(number), due).await.unwrap()
}

/// What is done to a job by its key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Reschedule,
    Cancel,
}

const BOTH: [By; 2] = [By::Reschedule, By::Cancel];

impl By {
    async fn change(self, tx: &Transaction<'_>, number: u128) -> Change {
        match self {
            By::Reschedule => reschedule_in(tx, number, after(3_600)).await,
            By::Cancel => cancel_in(tx, number).await,
        }
    }
}

/// Two transactions in both orders: `other` first, and the change waits for it; or the change first, and `other` waits if
/// `change_first_waits`. In both orders the job is in the right state afterwards.
async fn against(
    by: By,
    number: u128,
    prepare: impl AsyncFn(&Database),
    other: impl AsyncFn(&Transaction<'_>),
    other_first: Change,
    change_first_waits: bool,
) {
    in_a_database(async |database| {
        prepare(database).await;
        with_two(database, async |one, two| {
            other(&one).await;
            let change = waits(database, &two, by.change(&two, number), one.commit()).await;
            assert_eq!(change, other_first, "{by:?}");
            two.commit().await.unwrap();
        })
        .await;
    })
    .await;
    in_a_database(async |database| {
        prepare(database).await;
        with_two(database, async |one, two| {
            assert_eq!(by.change(&one, number).await, Change::Made);
            if change_first_waits {
                waits(database, &two, other(&two), one.commit()).await;
            } else {
                other(&two).await;
                one.commit().await.unwrap();
            }
            two.commit().await.unwrap();
        })
        .await;
        let left = format!("select count(*) from jobs where job_key = '{}'", key(number));
        assert_eq!(database.number(&left).await, i64::from(by == By::Reschedule));
    })
    .await;
}

#[tokio::test]
async fn a_change_against_a_promotion() {
    for by in BOTH {
        for job in [in_lane(1, 7), NewJob::new(COMPANY, key(1))] {
            let prepare = async |database: &Database| enqueue_overdue(database, std::slice::from_ref(&job)).await;
            let promote = async |tx: &Transaction<'_>| {
                promote_in(tx).await;
            };
            against(by, 1, prepare, promote, Change::Made, false).await;
        }
    }
}

#[tokio::test]
async fn a_change_against_a_promotion_behind_others_of_the_lane() {
    for by in BOTH {
        let prepare = async |database: &Database| {
            enqueue_overdue(database, &[in_lane(2, 7)]).await;
            enqueue(&database.service, &[in_lane(1, 7)]).await;
        };
        let promote = async |tx: &Transaction<'_>| {
            promote_in(tx).await;
        };
        against(by, 2, prepare, promote, Change::Made, false).await;
    }
}

#[tokio::test]
async fn a_change_against_a_claim() {
    for by in BOTH {
        let prepare = async |database: &Database| {
            enqueue(&database.service, &[in_lane(1, 7), in_lane(2, 7)]).await;
        };
        let claim = async |tx: &Transaction<'_>| {
            claim_in(tx, 9).await;
        };
        against(by, 1, prepare, claim, Change::Running, false).await;
    }
}

/// Job 1 runs at the head of lane 7, with jobs 2 and 3 behind it.
async fn running(database: &Database) -> Claimed {
    enqueue(&database.service, &[in_lane(1, 7), in_lane(2, 7), in_lane(3, 7)]).await;
    claim(&database.service, 1).await.remove(0)
}

#[tokio::test]
async fn a_change_of_a_waiting_job_against_the_end_of_the_one_before_it() {
    for by in BOTH {
        for (finishes_first, number) in [(true, 2), (false, 2), (false, 3)] {
            in_a_database(async |database| {
                let first = running(database).await;
                with_two(database, async |one, two| {
                    if finishes_first {
                        end_in(&one, &first, Ending::Done).await.unwrap();
                        let change = waits(database, &two, by.change(&two, number), one.commit()).await;
                        assert_eq!(change, Change::Made);
                    } else {
                        assert_eq!(by.change(&one, number).await, Change::Made);
                        let ended = end_in(&two, &first, Ending::Done);
                        assert!(waits(database, &two, ended, one.commit()).await.unwrap());
                    }
                    two.commit().await.unwrap();
                })
                .await;
                // A rescheduled job keeps its position, and its lane waits for it.
                let expected: &[u128] = match (by, number) {
                    (By::Cancel, 2) => &[3],
                    (By::Reschedule, 2) => &[],
                    _ => &[2],
                };
                assert_eq!(finish_all(database).await, expected, "{by:?} {finishes_first} {number}");
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_change_of_a_running_job_against_its_end() {
    for by in BOTH {
        for ending in [Ending::Done, Ending::Retry(Duration::from_secs(60))] {
            in_a_database(async |database| {
                let first = running(database).await;
                with_two(database, async |changing, finishing| {
                    assert_eq!(by.change(&changing, 1).await, Change::Running);
                    let ended = end_in(&finishing, &first, ending.clone());
                    if by == By::Cancel {
                        assert!(waits(database, &finishing, ended, changing.commit()).await.unwrap());
                    } else {
                        assert!(ended.await.unwrap());
                        changing.commit().await.unwrap();
                    }
                    finishing.commit().await.unwrap();
                })
                .await;
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_cancel_of_a_job_that_is_ending_waits_for_how_it_ends() {
    for (ending, change) in [(Ending::Done, Change::Missing), (Ending::Retry(Duration::from_secs(60)), Change::Made)] {
        in_a_database(async |database| {
            let first = running(database).await;
            with_two(database, async |finishing, cancelling| {
                assert!(store::release(&finishing, QUEUE, &[first.lease]).await.unwrap().len() == 1);
                let unblock = async {
                    store::settle(&finishing, QUEUE, &[EndedAttempt { job: &first, ending }]).await?;
                    finishing.commit().await
                };
                assert_eq!(waits(database, &cancelling, cancel_in(&cancelling, 1), unblock).await, change);
                cancelling.commit().await.unwrap();
            })
            .await;
            assert_eq!(finish_all(database).await, [2, 3]);
        })
        .await;
    }
}

#[tokio::test]
async fn two_changes_of_one_job_follow_one_another() {
    for (first, second, expected) in [
        (By::Reschedule, By::Reschedule, Change::Made),
        (By::Reschedule, By::Cancel, Change::Made),
        (By::Cancel, By::Reschedule, Change::Missing),
        (By::Cancel, By::Cancel, Change::Missing),
    ] {
        for number in [1, 2] {
            in_a_database(async |database| {
                enqueue(&database.service, &[in_lane(1, 7), in_lane(2, 7)]).await;
                with_two(database, async |one, two| {
                    assert_eq!(first.change(&one, number).await, Change::Made);
                    let change = waits(database, &two, second.change(&two, number), one.commit()).await;
                    assert_eq!(change, expected, "{first:?} {second:?}");
                    two.commit().await.unwrap();
                })
                .await;
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_cancel_of_a_lanes_only_job_against_an_enqueuer_of_the_lane_or_of_its_key() {
    for number in [1, 2] {
        in_a_database(async |database| {
            enqueue(&database.service, &[in_lane(1, 7)]).await;
            with_two(database, async |cancelling, enqueuing| {
                assert_eq!(cancel_in(&cancelling, 1).await, Change::Made);
                let enqueued = enqueue_in(&enqueuing, [in_lane(number, 7)]);
                let enqueued = waits(database, &enqueuing, enqueued, cancelling.commit()).await;
                assert_eq!(enqueued, Enqueued { added: 1, ready: 1 });
                enqueuing.commit().await.unwrap();
            })
            .await;
            assert_eq!(finish_all(database).await, [number]);
        })
        .await;
    }
    in_a_database(async |database| {
        enqueue(&database.service, &[in_lane(1, 7)]).await;
        with_two(database, async |enqueuing, cancelling| {
            enqueue_in(&enqueuing, [in_lane(2, 7)]).await;
            let cancelled = waits(database, &cancelling, cancel_in(&cancelling, 1), enqueuing.commit()).await;
            assert_eq!(cancelled, Change::Made);
            cancelling.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [2]);
    })
    .await;
}
