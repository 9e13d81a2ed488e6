//! Handling inbound messages: their contact, their position, and the turn that answers them.

use domain::{Address, IgnoreReason, InboundMessage};
use futures_util::future::join_all;
use platform::outcomes::Admission;

use super::*;
use crate::tests::with_fixture;

/// A text of a contact that the provider identifies by a phone, an `@lid`, or both; a phone comes first.
fn known_as(names: &[&str], body: &str) -> InboundMessage {
    let aliases: Vec<Address> = names.iter().map(|it| Address::jid(it).unwrap()).collect();
    InboundMessage { address: aliases[0].clone(), aliases, reply_to: names[0].to_owned(), ..text(MARIA, body) }
}

const PHONE: &str = "5511999990001@s.whatsapp.net";
const OLD_PHONE: &str = "551199990001@s.whatsapp.net";
const LID: &str = "116900000000001@lid";

async fn conversations_and_contacts(fixture: &Fixture) -> Vec<String> {
    fixture
        .rows(
            "select count(distinct m.conversation_id), count(distinct a.contact_id), count(distinct a.alias)
         from contact_aliases a, messages m",
        )
        .await
}

#[tokio::test]
async fn a_burst_of_three_messages_is_one_turn() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(MARIA, "queria marcar")]).await;
        receive(fixture, clinic, &[text(MARIA, "pode ser sexta?")]).await;
        assert_eq!(turns(fixture).await, ["collecting | - | 0 | oi, queria marcar, pode ser sexta?"]);
        assert_eq!(outcomes(fixture).await, ["in_flight | - | 3"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_turn_is_postponed_by_messages_up_to_its_cap() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let due = "select extract(epoch from j.due_at - opened_at) between 60 and 119,
                     j.due_at = closes_at, extract(epoch from closes_at - opened_at)::int
                   from turns t
                   join jobs_scheduled j on j.job_key = t.turn_id";
        let steps = steps(fixture);
        fixture.consume(&handler_with(60_000, 120_000), &records(fixture, clinic, &[text(MARIA, "oi")])).await.unwrap();
        assert_eq!(fixture.rows(due).await, ["t | f | 120"]);
        assert_eq!(claim(&steps, 10).await.len(), 0, "it may still be writing");

        fixture
            .consume(&handler_with(500_000, 500_000), &records(fixture, clinic, &[text(MARIA, "queria")]))
            .await
            .unwrap();
        assert_eq!(fixture.rows(due).await, ["f | t | 120"], "the cap is the one it was opened with");
        steps.make_due().await.unwrap();
        assert_eq!(history(&claim_one(&steps).await), ["oi", "queria"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_read_again_joins_no_turn() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let batch = records(fixture, clinic, &[text(MARIA, "oi"), text(MARIA, "oi")]);
        assert_eq!(fixture.consume(&handler(), &batch).await.unwrap(), [Admission::New, Admission::Duplicate]);
        assert_eq!(fixture.consume(&handler(), &batch).await.unwrap(), [Admission::Duplicate; 2]);
        assert_eq!(turns(fixture).await, ["collecting | - | 0 | oi"]);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_needs_no_answer_leaves_only_its_outcome() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let shop = fixture.company("loja.test").await;
        fixture.run("update companies set status = 'suspended' where domain = 'loja.test'").await;
        let group = InboundMessage { ignore: Some(IgnoreReason::Group), ..text(MARIA, "oi, gente") };
        let echo = InboundMessage { ignore: Some(IgnoreReason::OwnEcho), ..text(MARIA, "já respondi") };
        receive(fixture, clinic, &[group, echo]).await;
        receive(fixture, shop, &[text(MARIA, "abrem hoje?")]).await;
        assert_eq!(
            outcomes(fixture).await,
            ["ignored | company_inactive | 1", "ignored | group | 1", "ignored | own_echo | 1"]
        );
        let left =
            "select (select count(*) from messages), (select count(*) from contacts), (select count(*) from turns)";
        assert_eq!(fixture.rows(left).await, ["0 | 0 | 0"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_of_an_unknown_company_is_refused_and_blames_the_data() {
    with_fixture(async |fixture| {
        let batch = records(fixture, CompanyId(404), &[text(MARIA, "oi")]);
        let refusal = fixture.consume(&handler(), &batch).await.unwrap_err();
        assert!(refusal.blames_the_data(), "so the consumer dead-letters it: {refusal:?}");
        assert_eq!(outcomes(fixture).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_ninth_digit_does_not_make_another_contact() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[known_as(&[PHONE, LID], "oi"), known_as(&[OLD_PHONE], "tudo bem?")]).await;
        receive(fixture, clinic, &[known_as(&[LID], "alô")]).await;
        assert_eq!(conversations_and_contacts(fixture).await, ["1 | 1 | 2"]);
        assert_eq!(turns(fixture).await, ["collecting | - | 0 | oi, tudo bem?, alô"]);
        let send_to = fixture.rows("select send_to from conversations").await;
        assert_eq!(send_to, [LID], "an answer goes to the form that was reported last");
    })
    .await;
}

#[tokio::test]
async fn a_contact_known_by_a_lid_alone_is_the_same_when_its_phone_is_reported() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[known_as(&[LID], "oi")]).await;
        receive(fixture, clinic, &[known_as(&[PHONE, LID], "sou eu")]).await;
        receive(fixture, clinic, &[known_as(&[OLD_PHONE], "de novo")]).await;
        assert_eq!(conversations_and_contacts(fixture).await, ["1 | 1 | 2"]);
    })
    .await;
}

#[tokio::test]
async fn two_contacts_that_turn_out_to_be_one_continue_as_the_one_known_by_phone() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[known_as(&[LID], "oi"), known_as(&[PHONE], "oi?")]).await;
        assert_eq!(conversations_and_contacts(fixture).await, ["2 | 2 | 2"]);
        receive(fixture, clinic, &[known_as(&[PHONE, LID], "sou eu")]).await;
        receive(fixture, clinic, &[known_as(&[LID], "sim")]).await;
        assert_eq!(conversations_and_contacts(fixture).await, ["2 | 1 | 2"]);
        assert_eq!(turns(fixture).await, ["collecting | - | 0 | oi", "collecting | - | 0 | oi?, sou eu, sim"]);
    })
    .await;
}

#[tokio::test]
async fn what_a_message_shows_of_its_contact_applies_to_later_ones_of_the_batch() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let named = |name: &str, body| InboundMessage { name: Some(name.into()), ..text(JOAO, body) };
        let batch = [
            known_as(&[LID], "oi"),
            known_as(&[PHONE], "oi?"),
            known_as(&[PHONE, LID], "sou eu"),
            known_as(&[LID], "sim"),
            named("João", "bom dia"),
            named("João da Silva", "tudo bem?"),
        ];
        receive(fixture, clinic, &batch).await;
        assert_eq!(conversations_and_contacts(fixture).await, ["3 | 2 | 3"]);
        assert_eq!(fixture.rows("select name from contacts where name is not null").await, ["João da Silva"]);
        let turns = turns(fixture).await;
        assert!(turns.contains(&"collecting | - | 0 | oi?, sou eu, sim".to_owned()), "{turns:?}");
        receive(fixture, clinic, &[named("João", "até logo")]).await;
        assert_eq!(fixture.rows("select name from contacts where name is not null").await, ["João"]);
    })
    .await;
}

#[tokio::test]
async fn the_same_phone_at_two_companies_is_two_contacts() {
    with_fixture(async |fixture| {
        for domain in ["clinica.test", "salao.test"] {
            let company = fixture.company(domain).await;
            receive(fixture, company, &[text(MARIA, "oi")]).await;
        }
        let sql = "select count(*), count(distinct contact_id), count(distinct alias) from contact_aliases";
        assert_eq!(fixture.rows(sql).await, ["2 | 2 | 1"]);
    })
    .await;
}

#[tokio::test]
async fn positions_in_a_conversation_are_consecutive() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "um"), text(JOAO, "eins"), text(MARIA, "dois")]).await;
        let steps = steps(fixture);
        for turn in claim(&steps, 10).await {
            finish(&steps, &turn, &answer("certo")).await;
        }
        receive(fixture, clinic, &[text(MARIA, "três"), text(JOAO, "zwei")]).await;
        let sql = "select string_agg(position || ' ' || body, ', ' order by position)
                   from messages group by conversation_id order by 1";
        assert_eq!(fixture.rows(sql).await, ["1 eins, 2 certo, 3 zwei", "1 um, 2 dois, 3 certo, 4 três"]);
    })
    .await;
}

#[tokio::test]
async fn forty_concurrent_messages_of_one_conversation_make_one_turn() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        let clinic = fixture.company("clinica.test").await;
        let batches: Vec<_> = (0..40).map(|it| records(fixture, clinic, &[text(MARIA, &format!("m{it}"))])).collect();
        let handler = handler();
        for admissions in join_all(batches.iter().map(|batch| fixture.consume(&handler, batch))).await {
            assert_eq!(admissions.unwrap(), [Admission::New]);
        }
        let sql = "select count(*), count(distinct turn_id), min(position), max(position), count(distinct position)
                   from messages";
        assert_eq!(fixture.rows(sql).await, ["40 | 1 | 1 | 40 | 40"]);
        assert_eq!(fixture.rows("select state, count(*) from turns group by 1").await, ["collecting | 1"]);
        fixture.conserves().await;
    })
    .await;
}
