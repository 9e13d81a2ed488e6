//! A provider that does not answer: its circuit opens, and deliveries are held back or fail.

use domain::Activity;

use super::*;
use crate::tests::with_fixture;

#[tokio::test]
async fn a_delivery_that_is_held_back_is_not_attempted_and_no_attempt_is_counted() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps_that_open_at_once(fixture, &LATER);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        finish(&steps, &claim_one(&steps).await, UNREACHABLE).await;
        receive(fixture, clinic, &[(2, 1, "b1"), (2, 2, "b2")]).await;
        for _ in 0..3 {
            assert_eq!(due(&steps).await, [""; 0]);
            steps.make_due().await.unwrap();
        }
        let held = ["a1 | waiting | - | 1 | 0", "b1 | waiting | - | 0 | 0", "b2 | waiting | - | 0 | 0"];
        assert_eq!(deliveries(fixture).await, held);
        assert_eq!(attempts(fixture).await, ["1 | 1 | FAILED_TEMPORARY | unreachable"]);
        assert_eq!(fixture.jobs("delivery").await, ["scheduled | 0", "scheduled | 1", "waiting | 0"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_circuit_belongs_to_one_company() {
    with_fixture(async |fixture| {
        let (clinic, salon) = (fixture.company("clinica.test").await, fixture.company("salao.test").await);
        let steps = steps_that_open_at_once(fixture, &LATER);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        finish(&steps, &claim_one(&steps).await, UNREACHABLE).await;
        receive(fixture, clinic, &[(2, 1, "a2")]).await;
        receive(fixture, salon, &[(1, 1, "b1")]).await;
        assert_eq!(due(&steps).await, ["b1"]);
    })
    .await;
}

#[tokio::test]
async fn a_delivery_that_is_held_back_for_as_long_as_its_retries_last_fails_without_an_attempt() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        // A schedule that takes no time is over as soon as the circuit is open.
        let steps = steps_that_open_at_once(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        finish(&steps, &claim_one(&steps).await, UNREACHABLE).await;
        receive(fixture, clinic, &[(2, 1, "b1"), (2, 2, "b2")]).await;
        let held = claim(&steps).await;
        assert_eq!(held.iter().map(|it| it.job.body.as_str()).collect::<Vec<_>>(), ["a1", "b1"]);
        for started in &held {
            let verdict = started.known.unwrap();
            assert_eq!(verdict.class(), Some("circuit_open"));
            assert_eq!(finish(&steps, started, verdict).await, Some(Ending::Done));
        }
        assert_eq!(
            deliveries(fixture).await,
            [
                "a1 | ended | failed_permanent | 1 | 0",
                "b1 | ended | failed_permanent | 0 | 0",
                "b2 | waiting | - | 0 | 0",
            ]
        );
        assert_eq!(attempts(fixture).await, ["1 | 1 | FAILED_TEMPORARY | unreachable"], "no other attempt was begun");
        assert_eq!(
            fixture.rows("select state, cause, attempts, detail from dead_letters order by attempts").await,
            [
                "waiting | circuit_open | 0 | provider did not answer for as long as the retries last",
                "waiting | circuit_open | 1 | provider did not answer for as long as the retries last",
            ]
        );
        assert_eq!(outcomes(fixture).await, ["dead_lettered | 2", "in_flight | 1"]);
        let attempts = |it: Envelope<Activity>| match it.payload {
            Activity::Delivery(it) => it.attempts,
            Activity::Turn(it) => panic!("{it:?}"),
        };
        assert_eq!(fixture.activity().await.into_iter().map(attempts).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(due(&steps).await, ["b2"], "and its lane goes on");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_delivery_with_an_unknown_purpose_is_postponed_unsent_and_delays_no_other() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[(1, 1, "a1"), (2, 1, "b1")]).await;
        fixture.run("alter table deliveries drop constraint deliveries_purpose_check").await;
        fixture.run("update deliveries set purpose = 'reminder' where body = 'a1'").await;
        let refusal = steps(fixture, &LATER).claim(10).await.err().unwrap();
        assert!(refusal.blames_the_data(), "{refusal:?}");
        assert_eq!(attempts(fixture).await, [""; 0], "a claim that is refused leaves nothing");

        // The worker then loads them one by one.
        let config = Config::default();
        let work = Sending::new(&fixture.context(), &config).unwrap();
        let both = "select count(*) = 2
                    from deliveries d
                    left join jobs_scheduled j on j.job_key = d.delivery_id
                    where d.state = 'ended' or j.attempts = 1";
        fixture.work_until(work, config.runner, both).await;
        let none = "b1 | ended | failed_permanent | 1 | 0";
        assert_eq!(
            deliveries(fixture).await,
            ["a1 | waiting | - | 0 | 0", none],
            "the company has no account on the channel"
        );
    })
    .await;
}
