//! Dividing contacts of two people, in rows as releases before 0.2.0 left them.
//!
//! Those gave a landline and the mobile with a 9 before that number one address, so only the numbers that answers were
//! sent to distinguish them in the rows.

use domain::{CompanyId, InboundMessage};

use crate::conversations::division::{self, DivisionOutcome, Finding};
use crate::reply::tests::{answer_due, id, receive, text};
use crate::tests::{Fixture, with_fixture};

const LANDLINE: &str = "551133334444";
const MOBILE: &str = "5511933334444";
const LID: &str = "116900000000001@lid";

/// A message of `phone` as those releases stored it: under the landline's address, to be answered at `phone`.
async fn receive_before(fixture: &Fixture, company: CompanyId, phone: &str, body: &str) {
    receive(fixture, company, &[text(LANDLINE, body)]).await;
    fixture.run(&format!("update conversations set send_to = '{phone}'")).await;
}

/// Answers the turn that is due, and stores the delivery of the answer.
async fn reply_before(fixture: &Fixture, body: &str) {
    assert_eq!(answer_due(fixture, body).await.len(), 1);
    fixture.run(
        "insert into deliveries (company_id, delivery_id, conversation_id, position, channel, send_to, body, purpose,
           state, outcome, ended_at, record_partition, record_offset)
         select m.company_id, m.message_id, m.conversation_id, m.position, c.channel, c.send_to, m.body, 'reply',
           'ended', 'sent', now(), 0, m.position
         from messages m join conversations c using (company_id, conversation_id)
         where m.direction = 'out'
         on conflict do nothing",
    )
    .await;
}

async fn divide(fixture: &Fixture) -> Vec<DivisionOutcome> {
    division::run(fixture.db()).await.unwrap().into_iter().map(|it: Finding| it.outcome).collect()
}

/// One line per alias: where its conversation's answers go, and its messages.
async fn conversations(fixture: &Fixture) -> Vec<String> {
    fixture
        .rows(
            "select a.alias, c.send_to, string_agg(m.body, ', ' order by m.position)
         from contact_aliases a
         left join conversations c using (company_id, contact_id)
         left join messages m using (company_id, conversation_id)
         group by a.alias, c.send_to order by a.alias",
        )
        .await
}

async fn both_were_answered(fixture: &Fixture, first: &str, last: &str) -> CompanyId {
    let clinic = fixture.company("clinica.test").await;
    receive_before(fixture, clinic, first, "do primeiro").await;
    reply_before(fixture, "ao primeiro").await;
    receive_before(fixture, clinic, last, "do outro").await;
    reply_before(fixture, "ao outro").await;
    assert_eq!(conversations(fixture).await.len(), 1);
    clinic
}

#[tokio::test]
async fn two_people_who_were_answered_get_a_conversation_each() {
    for (first, last) in [(LANDLINE, MOBILE), (MOBILE, LANDLINE)] {
        with_fixture(async |fixture| {
            let clinic = both_were_answered(fixture, first, last).await;
            receive_before(fixture, clinic, last, "de quem?").await;
            let outcomes = divide(fixture).await;
            assert!(matches!(outcomes[..], [DivisionOutcome::Divided { turns: 1, unproven: 1, .. }]), "{outcomes:?}");
            let kept = format!("{last} | {last} | do outro, ao outro, de quem?");
            let moved = format!("{first} | {first} | do primeiro, ao primeiro");
            let mut expected = [kept, moved];
            expected.sort();
            assert_eq!(conversations(fixture).await, expected);
            assert_eq!(divide(fixture).await, [], "a second run finds nothing to divide");
            assert_eq!(conversations(fixture).await, expected);

            // From now on each is answered at its own number, and only its own messages are remembered.
            receive(fixture, clinic, &[text(first, "voltei")]).await;
            let histories = answer_due(fixture, "Olá!").await;
            assert_eq!(histories.len(), 2);
            for history in histories {
                let others = if history.iter().any(|it| it == "voltei") { "outro" } else { "primeiro" };
                assert!(history.iter().all(|it| !it.contains(others)), "{history:?}");
            }
            let to = "select convert_from(payload, 'UTF8')::jsonb #>> '{payload,to}' from outbox
                      where topic = 'outbound.messages' order by outbox_id desc limit 2";
            let mut to = fixture.rows(to).await;
            to.sort();
            assert_eq!(to, [LANDLINE, MOBILE]);
            assert_eq!(divide(fixture).await, []);
            fixture.conserves().await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_contact_that_is_a_mobile_alone_keeps_its_history_under_its_own_address() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive_before(fixture, clinic, MOBILE, "oi").await;
        reply_before(fixture, "Olá!").await;
        assert_eq!(divide(fixture).await, [DivisionOutcome::Mobile]);
        assert_eq!(divide(fixture).await, []);
        receive(fixture, clinic, &[text(MOBILE, "sou o celular"), text(LANDLINE, "sou o fixo")]).await;
        let expected =
            [format!("{LANDLINE} | {LANDLINE} | sou o fixo"), format!("{MOBILE} | {MOBILE} | oi, Olá!, sou o celular")];
        assert_eq!(conversations(fixture).await, expected);
        assert_eq!(divide(fixture).await, []);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_landline_alone_is_unchanged_and_a_contact_without_proof_is_reported() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive_before(fixture, clinic, LANDLINE, "oi").await;
        reply_before(fixture, "Olá!").await;
        assert_eq!(divide(fixture).await, []);
        let before = conversations(fixture).await;
        fixture.run(&format!("update conversations set send_to = '{LID}'; delete from deliveries")).await;
        for _ in 0..2 {
            assert_eq!(divide(fixture).await, [DivisionOutcome::Unproven], "in each run, until it is corrected");
        }
        fixture.run(&format!("update conversations set send_to = '{LANDLINE}'")).await;
        assert_eq!(conversations(fixture).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_mobile_that_has_a_contact_already_is_reported() {
    with_fixture(async |fixture| {
        let clinic = both_were_answered(fixture, LANDLINE, MOBILE).await;
        receive(fixture, clinic, &[text(MOBILE, "antes da divisão")]).await;
        let before = conversations(fixture).await;
        assert_eq!(divide(fixture).await, [DivisionOutcome::Unproven]);
        assert_eq!(conversations(fixture).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_record_of_an_older_release_is_a_message_of_the_mobile_that_wrote_it() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(LANDLINE, "sou o fixo")]).await;
        let written_before = InboundMessage { reply_to: MOBILE.to_owned(), ..text(LANDLINE, "sou o celular") };
        assert_eq!(written_before.address.as_str(), LANDLINE);
        receive(fixture, clinic, &[written_before]).await;
        let expected =
            [format!("{LANDLINE} | {LANDLINE} | sou o fixo"), format!("{MOBILE} | {MOBILE} | sou o celular")];
        assert_eq!(conversations(fixture).await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_an_older_release_stored_and_that_arrives_again_is_answered_once() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive_before(fixture, clinic, LANDLINE, "oi").await;
        reply_before(fixture, "ao fixo").await;
        receive_before(fixture, clinic, MOBILE, "sou o celular").await;
        assert!(matches!(divide(fixture).await[..], [DivisionOutcome::Divided { .. }]));
        let again = text(MOBILE, "sou o celular");
        assert_ne!(id(clinic, &again), id(clinic, &text(LANDLINE, "sou o celular")), "its id has changed");
        receive(fixture, clinic, std::slice::from_ref(&again)).await;
        receive(fixture, clinic, &[again]).await;
        // The landline's message has the id that this one would have had, but it is another message.
        receive(fixture, clinic, &[text(MOBILE, "oi")]).await;
        let repeated = "select reason, count(*) from event_outcomes where state = 'ignored' group by reason";
        assert_eq!(fixture.rows(repeated).await, ["repeated | 1"]);
        let expected =
            [format!("{LANDLINE} | {LANDLINE} | oi, ao fixo"), format!("{MOBILE} | {MOBILE} | sou o celular, oi")];
        assert_eq!(conversations(fixture).await, expected);
        fixture.conserves().await;
    })
    .await;
}
