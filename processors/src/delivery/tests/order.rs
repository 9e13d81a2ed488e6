//! Who is sent when: the head of each conversation, one attempt at a time, each written down before it is made.

use std::collections::HashSet;

use futures_util::future::join_all;
use platform::marks::Standing;

use super::*;
use crate::tests::in_a_room;

#[tokio::test]
async fn only_the_head_of_a_conversation_is_sent() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[(1, 2, "a2"), (1, 1, "a1"), (2, 7, "b7"), (2, 9, "b9")]).await;
        let heads = claim(room).await;
        assert_eq!(
            heads.iter().map(|it| it.body.as_str()).collect::<Vec<_>>(),
            ["a1", "b7"],
            "conversations side by side"
        );
        assert_eq!(due(room).await, [""; 0], "while the heads are under way the next ones wait");

        assert_eq!(
            finish(room, &heads[1], &Verdict::Sent, &LATER).await,
            Finish::Done(AttemptResult::Sent, Next::Sent)
        );
        assert_eq!(due(room).await, ["b9"]);
        finish(room, &heads[0], &FORBIDDEN, &LATER).await;
        assert_eq!(due(room).await, ["a2"], "one that is given up holds nobody up");
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn while_a_head_waits_for_its_retry_the_next_ones_wait_behind_it() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[(1, 1, "a1"), (1, 2, "a2")]).await;
        finish(room, &claim_one(room).await, &BUSY, &LATER).await;
        let nothing = claims::claim(room.db(), 10, "one", LONG).await.unwrap();
        assert_eq!(nothing.jobs.len(), 0);
        let left = nothing.next_due.unwrap();
        assert!(LONG - Duration::from_secs(60) < left && left <= LONG, "it says when to look again: {left:?}");
        assert_eq!(deliveries(room).await, ["a1 | waiting | - | 1 | 0", "a2 | waiting | - | 0 | 0"]);
    })
    .await;

    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[(1, 1, "a1"), (1, 2, "a2")]).await;
        finish(room, &claim_one(room).await, &BUSY, &AT_ONCE).await;
        let again = claim_one(room).await;
        assert_eq!((again.body.as_str(), again.attempt, again.of_round), ("a1", 2, 2));
        finish(room, &again, &Verdict::Sent, &AT_ONCE).await;
        assert_eq!(due(room).await, ["a2"]);
        assert_eq!(
            room.rows("select attempt, result, class from delivery_attempts order by started_at").await,
            ["1 | FAILED_TEMPORARY | busy", "2 | SENT | -", "1 | - | -"]
        );
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn an_attempt_is_written_down_before_it_is_made() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[(1, 1, "a1")]).await;
        assert_eq!(attempts(room).await, [""; 0]);
        let claim = claim_one(room).await;
        assert_eq!((claim.attempt, claim.of_round, claim.unknowns), (1, 1, 0));
        assert_eq!((claim.to.as_str(), claim.body.as_str()), ("5511999990001", "a1"));
        assert_eq!(attempts(room).await, ["1 | 1 | - | -"]);
        finish(room, &claim, &Verdict::Sent, &LATER).await;
        assert_eq!(attempts(room).await, ["1 | 1 | SENT | -"]);
        assert_eq!(deliveries(room).await, ["a1 | ended | sent | 1 | 0"]);
        assert_eq!(marks(room).await, ["done | 1"]);
        let kept = "select num_nonnulls(record_key, record_headers, record_payload) from deliveries";
        assert_eq!(room.rows(kept).await, ["0"], "its record is of no more use");
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_one_company_does_not_keep_another_waiting() {
    in_a_room(async |room| {
        let (loud, quiet) = (room.company("barulho.test").await, room.company("calma.test").await);
        let bodies: Vec<String> = (0..50).map(|it| format!("a{it}")).collect();
        let flood: Vec<_> =
            bodies.iter().zip(1..).map(|(body, conversation)| (conversation, 1, body.as_str())).collect();
        hear(room, loud, &flood).await;
        hear(room, quiet, &[(99, 1, "b")]).await;
        let two = claims::claim(room.db(), 2, "one", LONG).await.unwrap().jobs;
        assert_eq!(two.iter().map(|it| it.company).collect::<HashSet<_>>(), HashSet::from([loud, quiet]));
    })
    .await;
}

#[tokio::test]
async fn many_claimants_at_once_make_each_attempt_once_and_keep_the_order() {
    in_a_room(async |room| {
        room.expect_a_crowd().await;
        let clinic = room.company("clinica.test").await;
        let bodies: Vec<String> = (0..60).map(|it| format!("{:02}/{}", it % 20, it / 20)).collect();
        let messages: Vec<_> =
            bodies.iter().zip(0..).map(|(body, it)| (1 + it % 20, 1 + (it / 20) as i64, body.as_str())).collect();
        hear(room, clinic, &messages).await;
        let mut sent = Vec::new();
        for _ in 0..40 {
            let claimed = join_all((0..6).map(|_| claims::claim(room.db(), 5, "one", LONG))).await;
            for claim in claimed.into_iter().flat_map(|it| it.unwrap().jobs) {
                finish(room, &claim, &Verdict::Sent, &LATER).await;
                sent.push(claim.body);
            }
        }
        let mut sorted = sent.clone();
        // Stable, by conversation alone: what is left is the order in which each conversation was sent.
        sorted.sort_by(|one, other| one[..2].cmp(&other[..2]));
        let mut expected = bodies.clone();
        expected.sort();
        assert_eq!(sorted, expected);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_that_comes_again_is_not_sent_again() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        let batch = [record(room, clinic, 1, 1, "a1"), record(room, clinic, 1, 1, "a1")];
        assert_eq!(room.take_in(&desk(), &batch).await.unwrap(), [Standing::Fresh, Standing::Duplicate]);
        finish(room, &claim_one(room).await, &Verdict::Sent, &LATER).await;
        assert_eq!(room.take_in(&desk(), &batch).await.unwrap(), [Standing::Duplicate; 2]);
        assert_eq!(due(room).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_renewed_claim_is_not_given_up_for_gone() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[(1, 1, "a1")]).await;
        let claim = claim_for(room, Duration::ZERO).await.remove(0);
        claims::renew(room.db(), &[(clinic, claim.delivery, claim.attempt)], LONG).await.unwrap();
        perform::settle_abandoned(room.db(), &AT_ONCE).await.unwrap();
        assert_eq!(attempts(room).await, ["1 | 1 | - | -"]);
        assert!(matches!(finish(room, &claim, &Verdict::Sent, &LATER).await, Finish::Done(..)));
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_starts_again_gives_its_own_attempts_up_and_no_others() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[(1, 1, "a1")]).await;
        claim_one(room).await;
        hear(room, clinic, &[(2, 1, "b1")]).await;
        claims::claim(room.db(), 10, "two", LONG).await.unwrap();
        assert_eq!(claims::take_back(room.db(), "three").await.unwrap(), 0);
        assert_eq!(claims::take_back(room.db(), "one").await.unwrap(), 1);
        perform::settle_abandoned(room.db(), &LATER).await.unwrap();
        assert_eq!(deliveries(room).await, ["a1 | waiting | - | 1 | 1", "b1 | sending | - | 1 | 0"]);
    })
    .await;
}
