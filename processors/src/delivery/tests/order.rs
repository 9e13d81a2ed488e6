//! The order of sends: the first waiting message of each conversation, one attempt at a time, each stored before it is
//! made.

use std::collections::HashSet;

use futures_util::future::join_all;
use platform::outcomes::Admission;

use super::*;
use crate::tests::with_fixture;

#[tokio::test]
async fn only_the_first_message_of_a_conversation_is_sent() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &LATER);
        receive(fixture, clinic, &[(1, 1, "a1"), (1, 2, "a2"), (2, 7, "b7"), (2, 9, "b9")]).await;
        let first = claim(&steps).await;
        assert_eq!(
            first.iter().map(|it| it.job.body.as_str()).collect::<Vec<_>>(),
            ["a1", "b7"],
            "several conversations at the same time"
        );
        assert_eq!(due(&steps).await, [""; 0], "while the first ones are being sent, the next ones wait");

        assert_eq!(finish(&steps, &first[1], Verdict::Done).await, Some(Ending::Done));
        assert_eq!(due(&steps).await, ["b9"]);
        finish(&steps, &first[0], FORBIDDEN).await;
        assert_eq!(due(&steps).await, ["a2"], "a failed message delays no other");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn while_a_message_waits_for_its_retry_later_ones_wait_too() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[(1, 1, "a1"), (1, 2, "a2")]).await;
        let steps = steps(fixture, &LATER);
        assert_eq!(finish(&steps, &claim_one(&steps).await, BUSY).await, Some(AFTER_AN_HOUR));
        assert_eq!(due(&steps).await, [""; 0]);
        assert_eq!(deliveries(fixture).await, ["a1 | waiting | - | 1 | 0", "a2 | waiting | - | 0 | 0"]);
        steps.make_due().await.unwrap();
        assert_eq!(due(&steps).await, ["a1"]);
    })
    .await;

    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[(1, 1, "a1"), (1, 2, "a2")]).await;
        let steps = steps(fixture, &AT_ONCE);
        finish(&steps, &claim_one(&steps).await, BUSY).await;
        let again = claim_one(&steps).await;
        assert_eq!((again.job.body.as_str(), again.job.attempt, again.job.of_round), ("a1", 2, 2));
        finish(&steps, &again, Verdict::Done).await;
        assert_eq!(due(&steps).await, ["a2"]);
        assert_eq!(
            fixture.rows("select attempt, result, class from delivery_attempts order by started_at").await,
            ["1 | FAILED_TEMPORARY | busy", "2 | SENT | -", "1 | - | -"]
        );
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn an_attempt_is_stored_before_it_is_made() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        assert_eq!(attempts(fixture).await, [""; 0]);
        let steps = steps(fixture, &LATER);
        let started = claim_one(&steps).await;
        let job = &started.job;
        assert_eq!((job.attempt, job.of_round, job.unknowns), (1, 1, 0));
        assert_eq!((job.to.as_str(), job.body.as_str()), ("5511999990001", "a1"));
        assert_eq!(attempts(fixture).await, ["1 | 1 | - | -"]);
        finish(&steps, &started, Verdict::Done).await;
        assert_eq!(attempts(fixture).await, ["1 | 1 | SENT | -"]);
        assert_eq!(deliveries(fixture).await, ["a1 | ended | sent | 1 | 0"]);
        assert_eq!(outcomes(fixture).await, ["done | 1"]);
        let kept = "select num_nonnulls(record_key, record_headers, record_payload) from deliveries";
        assert_eq!(fixture.rows(kept).await, ["0"], "its record is no longer needed");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn many_messages_of_one_company_do_not_delay_another() {
    with_fixture(async |fixture| {
        let (loud, quiet) = (fixture.company("barulho.test").await, fixture.company("calma.test").await);
        let bodies: Vec<String> = (0..50).map(|it| format!("a{it}")).collect();
        let many: Vec<_> =
            bodies.iter().zip(1..).map(|(body, conversation)| (conversation, 1, body.as_str())).collect();
        receive(fixture, loud, &many).await;
        receive(fixture, quiet, &[(99, 1, "b")]).await;
        let two = steps(fixture, &LATER).claim(2).await.unwrap();
        assert_eq!(two.iter().map(|it| it.job.company).collect::<HashSet<_>>(), HashSet::from([loud, quiet]));
    })
    .await;
}

#[tokio::test]
async fn concurrent_claims_make_each_attempt_once_and_keep_the_order() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        let clinic = fixture.company("clinica.test").await;
        let bodies: Vec<String> = (0..60).map(|it| format!("{:02}/{}", it % 20, it / 20)).collect();
        let messages: Vec<_> =
            bodies.iter().zip(0..).map(|(body, it)| (1 + it % 20, 1 + (it / 20) as i64, body.as_str())).collect();
        receive(fixture, clinic, &messages).await;
        let steps = steps(fixture, &LATER);
        let mut sent = Vec::new();
        for _ in 0..40 {
            let claimed = join_all((0..6).map(|_| steps.claim(5))).await;
            for started in claimed.into_iter().flat_map(|it| it.unwrap()) {
                assert_eq!(finish(&steps, &started, Verdict::Done).await, Some(Ending::Done));
                sent.push(started.job.body);
            }
        }
        let mut sorted = sent.clone();
        // Stable, by conversation alone: what is left is the order in which each conversation was sent.
        sorted.sort_by(|one, other| one[..2].cmp(&other[..2]));
        let mut expected = bodies.clone();
        expected.sort();
        assert_eq!(sorted, expected);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_read_again_is_not_sent_again() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let batch = [record(fixture, clinic, 1, 1, "a1"), record(fixture, clinic, 1, 1, "a1")];
        let steps = steps(fixture, &LATER);
        assert_eq!(
            fixture.consume(&OutboundMessageHandler, &batch).await.unwrap(),
            [Admission::New, Admission::Duplicate]
        );
        finish(&steps, &claim_one(&steps).await, Verdict::Done).await;
        assert_eq!(fixture.consume(&OutboundMessageHandler, &batch).await.unwrap(), [Admission::Duplicate; 2]);
        assert_eq!(due(&steps).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_starts_again_reclaims_its_own_attempts_and_no_others() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let (one, two, three) =
            (steps(fixture, &LATER), steps_of(fixture, "two", &LATER), steps_of(fixture, "three", &LATER));
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        claim_one(&one).await;
        receive(fixture, clinic, &[(2, 1, "b1")]).await;
        claim_one(&two).await;
        assert_eq!(three.reclaim().await.unwrap(), 0);
        assert_eq!(one.reclaim().await.unwrap(), 1);
        assert_eq!(deliveries(fixture).await, ["a1 | waiting | - | 1 | 1", "b1 | sending | - | 1 | 0"]);
    })
    .await;
}
