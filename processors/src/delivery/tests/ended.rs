//! The events of deliveries that ended: ids, kinds, times and sizes, one event per end.

use domain::{Activity, ContactId, DeliveryEnded};

use super::*;
use crate::dead_letters::{self, Filter, Run};
use crate::tests::with_fixture;

/// The deliveries that ended since the last call, each with the id of its event.
async fn ended(fixture: &Fixture) -> Vec<(EventId, DeliveryEnded)> {
    let delivery = |envelope: Envelope<Activity>| match envelope.payload {
        Activity::Delivery(delivery) => (envelope.event_id, delivery),
        Activity::Turn(turn) => panic!("{turn:?}"),
    };
    fixture.activity().await.into_iter().map(delivery).collect()
}

#[tokio::test]
async fn an_ended_delivery_is_published_with_its_outcome_its_attempts_and_its_duration() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        fixture.run("update companies set placement_spread = 5, placement_epoch = 7").await;
        let contact = ContactId(Uuid::from_u128(77));
        fixture
            .run(&format!(
                "insert into contacts (company_id, contact_id, channel) values ({clinic}, '{contact}', 'whaticket');
             insert into conversations (company_id, conversation_id, contact_id, channel, send_to)
             values ({clinic}, '{}', '{contact}', 'whaticket', 'nowhere')",
                Uuid::from_u128(1)
            ))
            .await;
        receive(fixture, clinic, &[(1, 1, "a1"), (2, 1, "b1")]).await;
        fixture.run("update deliveries set created_at = now() - interval '90 seconds'").await;
        let both = claim(&steps).await;
        finish(&steps, &both[0], BUSY).await;
        assert_eq!(fixture.rows("select * from outbox").await, [""; 0], "one that goes on has not ended");
        finish(&steps, &both[1], FORBIDDEN).await;
        finish(&steps, &claim_one(&steps).await, Verdict::Done).await;

        let placed = "select topic, convert_from(key, 'utf8') = company_id::text, spread,
                        headers::text like '%' || replace(encode('7', 'base64'), '=', '') || '%'
                      from outbox where topic = 'activity.events'";
        assert_eq!(fixture.rows(placed).await, ["activity.events | t | 5 | t"; 2]);
        let ended = ended(fixture).await;
        let (failed, sent) = (&ended[0].1, &ended[1].1);
        let fields = |it: &DeliveryEnded| (it.delivery_id, it.conversation_id, it.contact_id, it.attempts);
        let conversation = |number| ConversationId(Uuid::from_u128(number));
        assert_eq!(fields(failed), (id("b1"), conversation(2), None, 1), "its conversation is not known");
        assert_eq!(fields(sent), (id("a1"), conversation(1), Some(contact), 2));
        assert_eq!((failed.outcome.as_str(), sent.outcome.as_str()), ("failed_permanent", "sent"));
        assert!(ended.iter().all(|(_, it)| (90_000..150_000).contains(&it.took_ms)), "{ended:?}");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn neither_text_nor_number_is_published() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "um segredo")]).await;
        finish(&steps, &claim_one(&steps).await, Verdict::Done).await;
        let record = fixture.publish(Topic::ActivityEvents).await.remove(0);
        let published = String::from_utf8(record.payload.unwrap()).unwrap();
        for private in ["segredo", "5511999990001", "clinica.test"] {
            assert!(!published.contains(private), "{published}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_replay_that_ends_again_is_published_again_even_without_an_attempt() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps_that_open_at_once(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        finish(&steps, &claim_one(&steps).await, UNREACHABLE).await;
        let all = Filter { limit: 10, ..Filter::default() };
        let mut events = Vec::new();
        for round in 0..3 {
            if round > 0 {
                dead_letters::replay(fixture.db(), &all, "ana", Run::Real).await.unwrap();
                fixture
                    .consume(&OutboundMessageHandler, &fixture.publish(Topic::OutboundMessages).await)
                    .await
                    .unwrap();
            }
            // While its circuit is open it ends without an attempt.
            let started = claim_one(&steps).await;
            let verdict = started.known.unwrap();
            assert_eq!(finish(&steps, &started, verdict).await, Some(Ending::Done));
            assert_eq!(finish(&steps, &started, verdict).await, None);
            let ended = ended(fixture).await;
            assert_eq!(
                ended.iter().map(|it| it.1.attempts).collect::<Vec<_>>(),
                [i32::from(round == 0).unsigned_abs()]
            );
            events.extend(ended.into_iter().map(|it| it.0));
        }
        events.sort_unstable();
        events.dedup();
        assert_eq!(events.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_end_that_fails_midway_publishes_nothing_and_may_be_tried_again() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture, &AT_ONCE);
        receive(fixture, clinic, &[(1, 1, "a1")]).await;
        let started = claim_one(&steps).await;
        for (table, check) in [("outbox", "false"), ("event_outcomes", "state <> 'done'")] {
            fixture.run(&format!("alter table {table} add constraint broken check ({check}) not valid")).await;
            steps.finish(&started, &Verdict::Done).await.unwrap_err();
            assert_eq!(deliveries(fixture).await, ["a1 | sending | - | 1 | 0"], "{table}");
            assert_eq!(attempts(fixture).await, ["1 | 1 | - | -"], "{table}");
            assert_eq!(fixture.rows("select * from outbox").await, [""; 0], "{table}");
            fixture.run(&format!("alter table {table} drop constraint broken")).await;
        }
        assert_eq!(finish(&steps, &started, Verdict::Done).await, Some(Ending::Done));
        assert_eq!(ended(fixture).await.len(), 1);
        fixture.conserves().await;
    })
    .await;
}
