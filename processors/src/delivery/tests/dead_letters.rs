//! Attempts with an unknown result, deliveries that are dead-lettered, and what a replay changes.

use platform::outcomes::Admission;

use super::*;
use crate::dead_letters::{self, Filter, Run};
use crate::tests::with_fixture;

async fn dead_letters(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select state, cause, attempts from dead_letters order by dead_lettered_at").await
}

/// Claims what is due, and its lease runs out.
async fn let_lease_expire(steps: &Steps<Sending>) {
    claim_one(steps).await;
    assert_eq!(steps.reclaim().await.unwrap(), 1);
}

/// Replays every dead letter, and handles the records that the outbox then holds.
async fn replay(fixture: &Fixture) -> Vec<Admission> {
    let all = Filter { limit: 10, processor: Some(crate::delivery::PROCESSOR.name), ..Filter::default() };
    dead_letters::replay(fixture.db(), &all, "ana", Run::Real).await.unwrap();
    let records = fixture.publish(Topic::OutboundMessages).await;
    fixture.consume(&OutboundMessageHandler, &records).await.unwrap()
}

/// Fails every attempt until the delivery is dead-lettered.
async fn fail_all(fixture: &Fixture, steps: &Steps<Sending>) {
    for attempt in 1..=6 {
        let started = claim_one(steps).await;
        assert_eq!(started.job.of_round, attempt);
        finish(steps, &started, BUSY).await;
        fixture.conserves().await;
    }
}

#[tokio::test]
async fn an_attempt_whose_lease_ran_out_is_unknown_and_made_once_more_before_it_is_dead_lettered() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1"), (1, 2, "a2")]).await;
        let_lease_expire(&steps).await;
        assert_eq!(attempts(fixture).await, ["1 | 1 | UNKNOWN | lease_ran_out"]);
        assert_eq!(deliveries(fixture).await, ["a1 | waiting | - | 1 | 1", "a2 | waiting | - | 0 | 0"]);
        assert_eq!(outcomes(fixture).await, ["in_flight | 2"]);

        let_lease_expire(&steps).await;
        assert_eq!(attempts(fixture).await, ["1 | 1 | UNKNOWN | lease_ran_out", "2 | 2 | UNKNOWN | lease_ran_out"]);
        assert_eq!(deliveries(fixture).await[0], "a1 | ended | failed_permanent | 2 | 2");
        assert_eq!(outcomes(fixture).await, ["dead_lettered | 1", "in_flight | 1"]);
        assert_eq!(dead_letters(fixture).await, ["waiting | lease_ran_out | 2"]);
        assert_eq!(fixture.waiting(Topic::DeadLetters).await, [id("a1")]);
        assert_eq!(due(&steps).await, ["a2"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_result_that_comes_after_its_lease_was_lost_is_void() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        let slow = claim_one(&steps).await;
        steps.reclaim().await.unwrap();
        assert_eq!(finish(&steps, &slow, Verdict::Done).await, None, "while it waits");
        let second = claim_one(&steps).await;
        assert_eq!(finish(&steps, &slow, Verdict::Done).await, None, "while it is under way again");
        assert_eq!(attempts(fixture).await, ["1 | 1 | UNKNOWN | lease_ran_out", "2 | 2 | - | -"]);
        assert_eq!(deliveries(fixture).await, ["a1 | sending | - | 2 | 1"]);

        finish(&steps, &second, Verdict::Done).await;
        assert_eq!(finish(&steps, &slow, FORBIDDEN).await, None, "and when it is over");
        assert_eq!((outcomes(fixture).await, dead_letters(fixture).await), (vec!["done | 1".to_owned()], vec![]));
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_failed_delivery_is_dead_lettered_with_its_original_record() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        let mut original = record(fixture, clinic, 1, 1, "a1");
        original.headers.push(("odd".into(), vec![0xff, 0, 0xfe]));
        fixture.consume(&OutboundMessageHandler, std::slice::from_ref(&original)).await.unwrap();
        finish(&steps, &claim_one(&steps).await, FORBIDDEN).await;
        assert_eq!(attempts(fixture).await, ["1 | 1 | FAILED_PERMANENT | forbidden"]);

        let all = Filter { limit: 10, ..Filter::default() };
        let dead_letters = dead_letters::list(fixture.db(), &all).await.unwrap();
        let dead_letter = &dead_letters[0];
        assert_eq!(
            (dead_letter.company, dead_letter.event, dead_letter.cause.as_str()),
            (clinic, id("a1"), "forbidden")
        );
        assert_eq!(
            (&dead_letter.key, &dead_letter.payload, &dead_letter.headers),
            (&original.key, &original.payload, &original.headers)
        );
        assert_eq!(
            (dead_letter.topic.as_str(), dead_letter.partition, dead_letter.offset),
            ("outbound.messages", 0, original.offset)
        );
        assert_eq!(dead_letter.detail, "provider refuses it for good (forbidden)");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_gives_the_whole_schedule_again() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        fail_all(fixture, &steps).await;
        assert_eq!(dead_letters(fixture).await, ["waiting | busy | 6"]);

        assert_eq!(replay(fixture).await, [Admission::Replayed]);
        assert_eq!((outcomes(fixture).await, dead_letters(fixture).await), (vec!["in_flight | 1".into()], vec!["replayed | busy | 6".into()]));
        fixture.conserves().await;
        fail_all(fixture, &steps).await;
        assert_eq!(deliveries(fixture).await, ["a1 | ended | failed_permanent | 12 | 0"]);
        assert_eq!(dead_letters(fixture).await, ["waiting | busy | 12"]);
        let rounds = "select attempt || '/' || of_round || ' ' || result from delivery_attempts where attempt > 5 order by attempt";
        assert_eq!(
            fixture.rows(rounds).await,
            [
                "6/6 FAILED_PERMANENT",
                "7/1 FAILED_TEMPORARY",
                "8/2 FAILED_TEMPORARY",
                "9/3 FAILED_TEMPORARY",
                "10/4 FAILED_TEMPORARY",
                "11/5 FAILED_TEMPORARY",
                "12/6 FAILED_PERMANENT",
            ]
        );

        assert_eq!(replay(fixture).await, [Admission::Replayed]);
        finish(&steps, &claim_one(&steps).await, Verdict::Done).await;
        assert_eq!(outcomes(fixture).await, ["done | 1"]);
        assert_eq!(replay(fixture).await, [], "a settled dead letter is not replayed");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_does_not_count_earlier_unknown_results() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        let_lease_expire(&steps).await;
        let_lease_expire(&steps).await;
        replay(fixture).await;
        let_lease_expire(&steps).await;
        assert_eq!(
            deliveries(fixture).await,
            ["a1 | waiting | - | 3 | 1"],
            "an operator has decided that it may be sent again"
        );
        let_lease_expire(&steps).await;
        assert_eq!(deliveries(fixture).await, ["a1 | ended | failed_permanent | 4 | 2"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_replayed_message_is_sent_before_later_ones_of_its_conversation() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        finish(&steps, &claim_one(&steps).await, FORBIDDEN).await;
        replay(fixture).await;
        receive(fixture, clinic, &[(1, 2, "a2")]).await;
        assert_eq!(due(&steps).await, ["a1"]);
    })
    .await;
}

#[tokio::test]
async fn concurrent_sweeps_end_an_attempt_whose_lease_ran_out_once() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &LATER);
        receive(fixture, clinic, &[(1, 1, "a1"), (2, 1, "b1"), (3, 1, "c1")]).await;
        assert_eq!(claim(&steps).await.len(), 3);
        let ended = futures_util::future::try_join_all((0..8).map(|_| steps.reclaim())).await.unwrap();
        assert_eq!(ended.iter().sum::<usize>(), 3);
        let waiting = ["a1 | waiting | - | 1 | 1", "b1 | waiting | - | 1 | 1", "c1 | waiting | - | 1 | 1"];
        assert_eq!(deliveries(fixture).await, waiting);
        fixture.conserves().await;
    })
    .await;
}
