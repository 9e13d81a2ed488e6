//! Both deliveries of an event, and several events, that end at the same time or in one transaction.

use super::*;
use crate::alerts::decide::Endpoint;
use crate::tests::with_fixture;

#[tokio::test]
async fn two_deliveries_that_end_at_the_same_time_end_their_event_once() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        fixture.open_connections().await;
        with_alerts(fixture, true, &["a", "b", "c", "d"]).await;
        let started = claim(&steps).await;
        assert_eq!(started.len(), 8);
        let ends = started.iter().map(|it| steps.finish(it, &GONE));
        futures_util::future::try_join_all(ends).await.unwrap();
        assert_eq!(outcomes(fixture).await, ["dead_lettered | - | 4"]);
        assert_eq!(fixture.waiting(Topic::DeadLetters).await.len(), 4, "each is announced once");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn both_deliveries_of_an_event_may_end_in_one_group() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        with_alerts(fixture, true, &["a", "b", "c"]).await;
        let mut all = claim(&steps).await;
        assert_eq!(all.len(), 6);
        all.reverse();
        let verdict = |it: &Started<Calling>| match (it.job.event == id("b"), it.job.endpoint) {
            (true, Endpoint::Operator) => GONE,
            _ => ACCEPTED,
        };
        let verdicts: Vec<ReceiverResponse> = all.iter().map(verdict).collect();
        let results: Vec<_> = all.iter().zip(&verdicts).collect();
        assert_eq!(steps.finish_all(&results).await.unwrap(), vec![Some(Ending::Done); 6]);
        assert_eq!(outcomes(fixture).await, ["dead_lettered | - | 1", "done | - | 2"]);
        assert_eq!(dead_letters(fixture).await.len(), 1);
        fixture.conserves().await;
    })
    .await;
}

/// Groups with deliveries of the same events, in both orders of their deliveries: there is no deadlock.
#[tokio::test]
async fn concurrent_groups_with_deliveries_of_the_same_events_end_each_event_once() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        let steps = steps(fixture);
        for round in 0..10 {
            let words: Vec<String> = (0..5).map(|it| format!("{round}/{it}")).collect();
            if round == 0 {
                with_alerts(fixture, true, &words.iter().map(String::as_str).collect::<Vec<_>>()).await;
            } else {
                let records: Vec<Record> =
                    words.iter().map(|word| record(fixture, &crossing(CompanyId(1), word))).collect();
                fixture.consume(&handler(true), &records).await.unwrap();
            }
            let all = claim(&steps).await;
            assert_eq!(all.len(), 10);
            let of = |endpoint| all.iter().filter(move |it| it.job.endpoint == endpoint).map(|it| (it, &GONE));
            let (company, mut operator): (Vec<_>, Vec<_>) =
                (of(Endpoint::Company).collect(), of(Endpoint::Operator).collect());
            operator.reverse();
            let (one, other) = tokio::join!(steps.finish_all(&company), steps.finish_all(&operator));
            assert_eq!((one.unwrap().len(), other.unwrap().len()), (5, 5));
        }
        assert_eq!(outcomes(fixture).await, ["dead_lettered | - | 50"]);
        assert_eq!(fixture.waiting(Topic::DeadLetters).await.len(), 50, "each is announced once");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn deliveries_that_are_claimed_do_not_deadlock_with_the_other_deliveries_of_their_events() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        with_alerts(fixture, true, &["a", "b"]).await;
        let all = claim(&steps).await;
        let of = |endpoint| all.iter().filter(move |it| it.job.endpoint == endpoint);
        // The operator's are due again, the later event's first.
        for it in of(Endpoint::Operator).rev() {
            finish(&steps, it, BUSY).await;
        }
        let company: Vec<_> = of(Endpoint::Company).map(|it| (it, &ACCEPTED)).collect();
        let mut client = fixture.db().get().await.unwrap();
        let blocked = client.transaction().await.unwrap();
        let sql = "select from webhook_deliveries where event_id = $1 and endpoint = 'company' for update";
        blocked.query(sql, &[&company[1].0.job.event.0]).await.unwrap();
        let (ended, claimed) = fixture.cross(blocked, steps.finish_all(&company), steps.claim(10)).await;
        assert_eq!((ended, claimed.len()), (vec![Some(Ending::Done); 2], 2));
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn deliveries_whose_workers_died_do_not_deadlock_with_the_other_deliveries_of_their_events() {
    with_fixture(async |fixture| {
        let (steps, gone) = (steps(fixture), steps_of(fixture, "gone"));
        with_alerts(fixture, true, &["a", "b", "c"]).await;
        let all = claim(&steps).await;
        for it in all.iter().filter(|it| it.job.endpoint == Endpoint::Operator) {
            finish(&steps, it, BUSY).await;
        }
        let operator = claim(&gone).await;
        assert_eq!(operator.len(), 3);
        // The last event's lease ran out first.
        for (it, age) in operator.iter().zip(["1 minute", "1 second", "1 hour"]) {
            let key = it.claimed.lease.key;
            let sql = format!("update jobs_running set lease_until = now() - interval '{age}' where job_key = '{key}'");
            fixture.run(&sql).await;
        }
        let company: Vec<_> =
            all.iter().filter(|it| it.job.endpoint == Endpoint::Company).map(|it| (it, &ACCEPTED)).collect();
        let mut client = fixture.db().get().await.unwrap();
        let blocked = client.transaction().await.unwrap();
        let sql = "select from webhook_deliveries where event_id = $1 and endpoint = 'company' for update";
        blocked.query(sql, &[&company[1].0.job.event.0]).await.unwrap();
        let (ended, reclaimed) =
            fixture.cross(blocked, steps.finish_all(&company), steps_of(fixture, "two").reclaim()).await;
        assert_eq!((ended, reclaimed), (vec![Some(Ending::Done); 3], 3));
        fixture.conserves().await;
    })
    .await;
}
