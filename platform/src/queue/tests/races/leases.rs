//! An expired lease is reclaimed once, and results of its former holder are discarded.

use super::*;

/// Job 1 runs at the head of lane 7, with job 2 behind it.
async fn running(database: &Database) -> Claimed {
    enqueue(&database.service, &[in_lane(1, 7), in_lane(2, 7)]).await;
    claim(&database.service, 1).await.remove(0)
}

#[tokio::test]
async fn a_result_that_comes_while_its_lease_is_reclaimed_is_discarded() {
    in_a_database(async |database| {
        let job = running(database).await;
        expire(database).await;
        with_two(database, async |reclaiming, finishing| {
            assert_eq!(reclaim_in(&reclaiming).await, 1);
            let ended = end_in(&finishing, &job, Ending::Done);
            assert!(!waits(database, &finishing, ended, reclaiming.commit()).await.unwrap());
            finishing.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_result_is_valid_when_the_reclaim_of_its_lease_is_rolled_back() {
    in_a_database(async |database| {
        let job = running(database).await;
        expire(database).await;
        with_two(database, async |reclaiming, finishing| {
            assert_eq!(reclaim_in(&reclaiming).await, 1);
            let ended = end_in(&finishing, &job, Ending::Done);
            assert!(waits(database, &finishing, ended, reclaiming.rollback()).await.unwrap());
            finishing.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn a_lease_whose_result_is_being_committed_is_not_reclaimed() {
    for commits in [true, false] {
        in_a_database(async |database| {
            let job = running(database).await;
            expire(database).await;
            with_two(database, async |finishing, reclaiming| {
                assert!(end_in(&finishing, &job, Ending::Done).await.unwrap());
                assert_eq!(reclaim_in(&reclaiming).await, 0);
                if commits { finishing.commit().await } else { finishing.rollback().await }.unwrap();
                assert_eq!(reclaim_in(&reclaiming).await, usize::from(!commits));
                reclaiming.commit().await.unwrap();
            })
            .await;
            assert_eq!(finish_all(database).await, if commits { vec![2] } else { vec![1, 2] });
        })
        .await;
    }
}

#[tokio::test]
async fn a_lease_is_either_renewed_or_reclaimed() {
    in_a_database(async |database| {
        let job = running(database).await;
        expire(database).await;
        let renew =
            async |tx: &Transaction<'_>| store::renew(tx, QUEUE, &[(job.lease, Some(500))], LEASE).await.unwrap();
        with_two(database, async |renewing, reclaiming| {
            assert_eq!(renew(&renewing).await.len(), 1);
            assert_eq!(reclaim_in(&reclaiming).await, 0, "it is being renewed");
            renewing.commit().await.unwrap();
            assert_eq!(reclaim_in(&reclaiming).await, 0, "it was renewed");
            reclaiming.commit().await.unwrap();
        })
        .await;
        expire(database).await;
        with_two(database, async |reclaiming, renewing| {
            assert_eq!(reclaim_in(&reclaiming).await, 1);
            assert_eq!(waits(database, &renewing, renew(&renewing), reclaiming.commit()).await, []);
            renewing.commit().await.unwrap();
        })
        .await;
        assert_eq!(finish_all(database).await, [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_reclaimed_by_one_process() {
    in_a_database(async |database| {
        let job = running(database).await;
        expire(database).await;
        with_two(database, async |one, two| {
            assert_eq!(reclaim_in(&one).await, 1);
            assert_eq!(reclaim_in(&two).await, 0);
            one.commit().await.unwrap();
            assert_eq!(reclaim_in(&two).await, 0);
            two.commit().await.unwrap();
        })
        .await;
        promote(&database.service).await;
        let again = claim(&database.service, 1).await;
        assert_eq!((numbers(&again), again[0].attempts), (vec![1], 2));
        assert!(!end(&database.service, &job, Ending::Done).await, "the lease belongs to another claim now");
        assert!(end(&database.service, &again[0], Ending::Done).await);
    })
    .await;
}

#[tokio::test]
async fn renewals_and_results_lock_leases_in_the_same_order() {
    in_a_database(async |database| {
        enqueue(&database.service, &[in_lane(1, 1), in_lane(2, 2), in_lane(3, 3)]).await;
        let jobs = claim(&database.service, 9).await;
        with_two(database, async |finishing, renewing| {
            end_in(&finishing, &jobs[0], Ending::Done).await.unwrap();
            // Requested in the opposite order; job 3 is not locked while the lock on 1 is waited for.
            let backwards: Vec<_> = jobs.iter().rev().map(|it| (it.lease, None)).collect();
            let renewed = store::renew(&renewing, QUEUE, &backwards, LEASE);
            let unblock = async {
                end_in(&finishing, &jobs[2], Ending::Done).await?;
                finishing.commit().await
            };
            let renewed = waits(database, &renewing, renewed, unblock).await.unwrap();
            assert_eq!(renewed.iter().map(|it| it.lease).collect::<Vec<_>>(), [jobs[1].lease]);
            renewing.commit().await.unwrap();
        })
        .await;
    })
    .await;
}
