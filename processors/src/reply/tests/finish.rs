//! The end of a turn: all of it is committed or none, and each turn has one.

use domain::{OutboundMessage, UsageEvent};
use platform::runner::Work;

use super::*;
use crate::reply::{decide, gemini, work};
use crate::tests::in_a_room;

#[tokio::test]
async fn an_answer_is_a_message_its_publication_and_what_it_used() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi"), text(MARIA, "tem horário?")]).await;
        let turn = claim_one(room).await;
        assert_eq!(finish(room, &turn, &answer("Temos às 14h.")).await, Finish::Done);

        assert_eq!(turns(room).await, ["ended | replied | 1 | oi, tem horário?, Temos às 14h."]);
        assert_eq!(marks(room).await, ["done | - | 2"]);
        let outbound = room.publish(Topic::OutboundMessages).await;
        assert_eq!(outbound.len(), 1);
        let payload = outbound[0].payload.as_deref().unwrap();
        let said: Envelope<OutboundMessage> = Envelope::read(payload, &[Kind::OutboundMessage]).unwrap();
        assert_eq!((said.company_id, said.event_id), (clinic, reply_of(&turn)));
        let OutboundMessage { position, to, body, .. } = said.payload;
        assert_eq!((position, to.as_str(), body.as_str()), (3, MARIA, "Temos às 14h."));
        assert_eq!(outbound[0].key, Some(format!("{clinic}/{}", turn.conversation).into_bytes()));

        let used = room.publish(Topic::UsageEvents).await;
        let fact = |record: &Record| -> Fact {
            let envelope: Envelope<UsageEvent> =
                Envelope::read(record.payload.as_deref().unwrap(), &[Kind::Usage]).unwrap();
            envelope.payload.fact
        };
        let tokens = Fact::ModelTokens { model: "gemini-test".into(), input: 100, output: 10, cached: 1 };
        let facts: Vec<Fact> = used.iter().map(fact).collect();
        assert_eq!(facts, [Fact::MessageIn, Fact::MessageIn, Fact::MessageOut, tokens]);
        assert_eq!(room.rows("select count(*) from outbox").await, ["0"], "and nothing else");
    })
    .await;
}

#[tokio::test]
async fn of_an_answer_longer_than_a_message_what_is_handed_on_is_what_is_kept() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let turn = claim_one(room).await;
        let long = gemini::Answer {
            text: "🦷".repeat(5_000),
            tokens: None,
            model: "gemini-test".into(),
            ending: gemini::AnswerEnding::Whole,
        };
        let ending = decide::on_answer(Ok(long), &[], "Já voltamos.");
        assert_eq!(finish(room, &turn, &ending).await, Finish::Done);
        let cut = "🦷".repeat(4_096);
        assert_eq!(room.rows("select body from messages where direction = 'out'").await, [cut.as_str()]);
        let outbound = room.publish(Topic::OutboundMessages).await;
        let said: Envelope<OutboundMessage> =
            Envelope::read(outbound[0].payload.as_deref().unwrap(), &[Kind::OutboundMessage]).unwrap();
        assert!(said.payload.body == cut, "{} characters", said.payload.body.chars().count());
    })
    .await;
}

#[tokio::test]
async fn an_end_that_fails_midway_leaves_nothing_and_may_be_tried_again() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let turn = claim_one(room).await;
        let context = context(room, &turn).await;
        // Each step in turn cannot be written: our message, what is published, and the marks, which come last.
        for (table, check) in
            [("messages", "direction = 'in'"), ("outbox", "false"), ("event_marks", "state <> 'done'")]
        {
            room.run(&format!("alter table {table} add constraint broken check ({check}) not valid")).await;
            perform::finish(room.db(), &turn, &context, &answer("Olá!")).await.unwrap_err();
            assert_eq!(turns(room).await, ["answering | - | 1 | oi"], "{table}");
            assert_eq!(room.rows("select * from outbox").await, [""; 0], "{table}");
            assert_eq!(marks(room).await, ["in_flight | - | 1"], "{table}");
            assert_eq!(room.rows("select last_position from conversations").await, ["1"], "{table}");
            room.run(&format!("alter table {table} drop constraint broken")).await;
        }
        assert_eq!(finish(room, &turn, &answer("Olá!")).await, Finish::Done);
        assert_eq!(turns(room).await, ["ended | replied | 1 | oi, Olá!"]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_turn_used_has_the_same_ids_whoever_writes_it_down() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        let oi = text(MARIA, "oi");
        hear(room, clinic, std::slice::from_ref(&oi)).await;
        let turn = claim_one(room).await;
        let twice = Ending { tokens: [answer("").tokens, answer("").tokens].concat(), ..answer("Olá!") };
        finish(room, &turn, &twice).await;
        let expected = [
            Fact::MessageIn.event_id(clinic, id(clinic, &oi).0),
            Fact::MessageOut.event_id(clinic, turn.turn.0),
            EventId::of_model_call(clinic, turn.turn, 1, 0),
            EventId::of_model_call(clinic, turn.turn, 1, 1),
        ];
        assert_eq!(room.waiting(Topic::UsageEvents).await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_fallback_is_an_end_like_any_other_and_keeps_its_class() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let turn = claim_one(room).await;
        let fallback = decide::on_answer(Err(gemini::Failure::QuotaDay), &[], "Já voltamos.");
        assert_eq!(finish(room, &turn, &fallback).await, Finish::Done);
        assert_eq!(turns(room).await, ["ended | fallback | 1 | oi, Já voltamos."]);
        assert_eq!(room.rows("select reason from turns").await, ["quota_day"]);
        assert_eq!(room.waiting(Topic::UsageEvents).await.len(), 2, "a message in and one out, no tokens");
        assert_eq!(marks(room).await, ["done | - | 1"]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_company_that_was_suspended_while_a_turn_was_collecting_says_nothing_and_asks_no_model() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi"), text(MARIA, "tem horário?")]).await;
        room.run("update companies set status = 'suspended'").await;

        // Nobody listens there: a call would end in the fallback.
        let model =
            gemini::Config { base_url: "http://127.0.0.1:9".into(), api_key: "chave".into(), ..Default::default() };
        let config = Config { model, ..Config::default() };
        let answering = work::Answering::new(&room.ground(), &config).unwrap();
        for claim in answering.claim(10).await.unwrap().jobs {
            answering.perform(claim).await;
        }
        assert_eq!(turns(room).await, ["ended | ignored | 1 | oi, tem horário?"]);
        assert_eq!(room.rows("select reason, reply_id from turns").await, ["company_inactive | -"]);
        assert_eq!(marks(room).await, ["ignored | company_inactive | 2"]);
        assert_eq!(room.rows("select * from outbox").await, [""; 0], "nothing is sent and nothing billed");
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_suspension_that_comes_after_the_model_was_asked_still_ends_as_answered() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let turn = claim_one(room).await;
        let context = context(room, &turn).await;
        room.run("update companies set status = 'suspended'").await;
        let ended = perform::finish(room.db(), &turn, &context, &answer("Olá!")).await.unwrap();
        assert_eq!(ended, Finish::Done);
        assert_eq!(marks(room).await, ["done | - | 1"]);
    })
    .await;
}
