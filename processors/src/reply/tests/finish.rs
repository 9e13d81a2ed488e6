//! The end of a turn: it is committed as a whole or not at all, and a turn ends once.

use domain::{Activity, OutboundMessage, TurnEnded, UsageEvent};
use platform::queue::{Performed, Work};

use super::*;
use crate::reply::decide;
use crate::tests::with_fixture;

/// The one turn that ended since the last call.
async fn ended(fixture: &Fixture) -> TurnEnded {
    let mut activity = fixture.activity().await;
    assert_eq!(activity.len(), 1);
    match activity.remove(0).payload {
        Activity::Turn(turn) => turn,
        Activity::Delivery(delivery) => panic!("{delivery:?}"),
    }
}

#[tokio::test]
async fn an_answer_makes_a_message_its_record_and_usage_events() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(MARIA, "tem horário?")]).await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        assert_eq!(finish(&steps, &turn, &answer("Temos às 14h.")).await, Some(Ending::Done));

        assert_eq!(turns(fixture).await, ["ended | replied | 1 | oi, tem horário?, Temos às 14h."]);
        assert_eq!(outcomes(fixture).await, ["done | - | 2"]);
        let outbound = fixture.publish(Topic::OutboundMessages).await;
        assert_eq!(outbound.len(), 1);
        let payload = outbound[0].payload.as_deref().unwrap();
        let outbound_message: Envelope<OutboundMessage> = Envelope::read(payload, &[Kind::OutboundMessage]).unwrap();
        assert_eq!((outbound_message.company_id, outbound_message.event_id), (clinic, reply_of(&turn)));
        let OutboundMessage { position, to, body, .. } = outbound_message.payload;
        assert_eq!((position, to.as_str(), body.as_str()), (3, MARIA, "Temos às 14h."));
        assert_eq!(outbound[0].key, Some(format!("{clinic}/{}", turn.job.conversation).into_bytes()));

        let used = fixture.publish(Topic::UsageEvents).await;
        let fact = |record: &Record| -> Fact {
            let envelope: Envelope<UsageEvent> =
                Envelope::read(record.payload.as_deref().unwrap(), &[Kind::Usage]).unwrap();
            envelope.payload.fact
        };
        let tokens = Fact::ModelTokens { model: "gemini-test".into(), input: 100, output: 10, cached: 1 };
        let facts: Vec<Fact> = used.iter().map(fact).collect();
        assert_eq!(facts, [Fact::MessageIn, Fact::MessageIn, Fact::MessageOut, tokens]);
        assert_eq!(fixture.activity().await.len(), 1);
        assert_eq!(fixture.rows("select count(*) from outbox").await, ["0"], "and nothing else");
    })
    .await;
}

#[tokio::test]
async fn an_answer_longer_than_a_message_is_published_as_it_is_stored() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        let long = gemini::ModelAnswer {
            text: "🦷".repeat(5_000),
            tokens: None,
            model: "gemini-test".into(),
            completeness: gemini::Completeness::Whole,
        };
        let ending = decide::on_answer(Ok(long), &[], "Já voltamos.");
        assert_eq!(finish(&steps, &turn, &ending).await, Some(Ending::Done));
        let cut = "🦷".repeat(4_096);
        assert_eq!(fixture.rows("select body from messages where direction = 'out'").await, [cut.as_str()]);
        let outbound = fixture.publish(Topic::OutboundMessages).await;
        let outbound_message: Envelope<OutboundMessage> =
            Envelope::read(outbound[0].payload.as_deref().unwrap(), &[Kind::OutboundMessage]).unwrap();
        assert!(outbound_message.payload.body == cut, "{} characters", outbound_message.payload.body.chars().count());
    })
    .await;
}

#[tokio::test]
async fn an_end_that_fails_midway_leaves_nothing_and_may_be_tried_again() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        // One write after the other fails: the message, the outbox entries, and the outcomes, which come last.
        for (table, check) in
            [("messages", "direction = 'in'"), ("outbox", "false"), ("event_outcomes", "state <> 'done'")]
        {
            fixture.run(&format!("alter table {table} add constraint broken check ({check}) not valid")).await;
            steps.finish(&turn, &answer("Olá!")).await.unwrap_err();
            assert_eq!(turns(fixture).await, ["answering | - | 1 | oi"], "{table}");
            assert_eq!(fixture.rows("select * from outbox").await, [""; 0], "{table}");
            assert_eq!(outcomes(fixture).await, ["in_flight | - | 1"], "{table}");
            assert_eq!(fixture.rows("select last_position from conversations").await, ["1"], "{table}");
            fixture.run(&format!("alter table {table} drop constraint broken")).await;
        }
        assert_eq!(finish(&steps, &turn, &answer("Olá!")).await, Some(Ending::Done));
        assert_eq!(turns(fixture).await, ["ended | replied | 1 | oi, Olá!"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn usage_events_of_a_turn_have_derived_ids() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let oi = text(MARIA, "oi");
        receive(fixture, clinic, std::slice::from_ref(&oi)).await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        let twice = TurnEnd { tokens: [answer("").tokens, answer("").tokens].concat(), ..answer("Olá!") };
        finish(&steps, &turn, &twice).await;
        let expected = [
            Fact::MessageIn.event_id(clinic, id(clinic, &oi).0),
            Fact::MessageOut.event_id(clinic, turn.job.turn.0),
            EventId::of_model_call(clinic, turn.job.turn, 1, 0),
            EventId::of_model_call(clinic, turn.job.turn, 1, 1),
        ];
        assert_eq!(fixture.waiting(Topic::UsageEvents).await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_fallback_ends_a_turn_and_keeps_its_class() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        let fallback = decide::on_answer(Err(gemini::ModelError::QuotaDay), &[], "Já voltamos.");
        assert_eq!(finish(&steps, &turn, &fallback).await, Some(Ending::Done));
        assert_eq!(turns(fixture).await, ["ended | fallback | 1 | oi, Já voltamos."]);
        assert_eq!(fixture.rows("select reason from turns").await, ["quota_day"]);
        assert_eq!(fixture.waiting(Topic::UsageEvents).await.len(), 2, "a message in and one out, no tokens");
        assert_eq!(outcomes(fixture).await, ["done | - | 1"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_turn_whose_company_was_suspended_while_it_collected_ends_without_message_and_call() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(MARIA, "tem horário?")]).await;
        fixture.run("update companies set status = 'suspended'").await;
        // Nothing listens at the model's URL: a call would end with the fallback.
        assert_eq!(steps(fixture).run(10).await.unwrap(), 1);
        assert_eq!(turns(fixture).await, ["ended | ignored | 0 | oi, tem horário?"]);
        assert_eq!(fixture.rows("select reason, reply_id from turns").await, ["company_inactive | -"]);
        assert_eq!(outcomes(fixture).await, ["ignored | company_inactive | 2"]);
        let ended = ended(fixture).await;
        assert_eq!((ended.outcome.as_str(), ended.reason.as_deref()), ("ignored", Some("company_inactive")));
        assert_eq!((ended.messages_in, ended.model), (2, None));
        assert_eq!(fixture.rows("select * from outbox").await, [""; 0], "nothing is sent and nothing billed");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_turn_whose_company_is_suspended_during_the_call_is_still_answered() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        fixture.run("update companies set status = 'suspended'").await;
        assert_eq!(finish(&steps, &turn, &answer("Olá!")).await, Some(Ending::Done));
        assert_eq!(outcomes(fixture).await, ["done | - | 1"]);
    })
    .await;
}

#[tokio::test]
async fn an_ended_turn_is_published_without_its_texts() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        fixture.run("update companies set placement_spread = 5").await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(MARIA, "tem horário?")]).await;
        fixture.run("update messages set received_at = now() - position * interval '30 seconds'").await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        finish(&steps, &turn, &answer("Temos às 14h.")).await;
        let sql = "select spread, event_id from outbox where topic = 'activity.events'";
        let event = EventId::of_end(clinic, "turn_ended", turn.job.turn.0, 1);
        assert_eq!(fixture.rows(sql).await, [format!("5 | {event}")]);
        let sql = "select convert_from(payload, 'utf8') from outbox where topic = 'activity.events'";
        let bytes = fixture.rows(sql).await.remove(0);
        for private in ["oi", "horário", "14h", MARIA, "clinica.test"] {
            assert!(!bytes.contains(&format!("\"{private}")) && !bytes.contains(&format!(" {private}")), "{bytes}");
        }

        let published = ended(fixture).await;
        assert_eq!((published.turn_id, published.conversation_id), (turn.job.turn, turn.job.conversation));
        assert_eq!((published.contact_id.0, published.messages_in), (turn.job.contact, 2));
        assert_eq!((published.outcome.as_str(), published.reason.as_deref()), ("replied", None));
        assert_eq!(published.model.as_deref(), Some("gemini-test"));
        assert!((60_000..120_000).contains(&published.answer_ms), "from its first message on: {}", published.answer_ms);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_postgres_refuses_is_replaced_by_the_fallback_and_what_it_used_stays_used() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        fixture.run("update companies set fallback_text = 'Já voltamos.'").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        fixture.run("alter table messages add constraint broken check (body <> 'Olá!') not valid").await;
        let steps = steps(fixture);
        let turn = claim_one(&steps).await;
        let refusal = steps.finish(&turn, &answer("Olá!")).await.unwrap_err();
        assert!(refusal.blames_the_data());
        let refused = Performed { claimed: &turn.claimed, job: &turn.job, output: &answer("Olá!") };
        let instead = steps.work().refused(&refused, &refusal).unwrap();
        assert_eq!(finish(&steps, &turn, &instead).await, Some(Ending::Done));
        assert_eq!(turns(fixture).await, ["ended | fallback | 1 | oi, Já voltamos."]);
        assert_eq!(fixture.rows("select reason from turns").await, ["refused_by_database"]);
        assert_eq!(fixture.rows("select amount from usage_events").await, ["110"]);
    })
    .await;
}
