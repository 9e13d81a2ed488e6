//! Messages are handled, turns are claimed and turns end concurrently, with one order of locks: conversations, then
//! turns, each by their ids. Each test stops the first transaction midway, and the second one must not deadlock with
//! it.

use platform::consumer::{Event, Handler};
use platform::outcomes::Admission;
use platform::postgres::Failure;

use super::*;
use crate::tests::with_fixture;

/// Handles messages in one transaction, which may wait for locks.
async fn handle_messages(fixture: &Fixture, company: CompanyId, messages: &[InboundMessage]) -> Result<(), Failure> {
    fixture.consume(&handler(), &records(fixture, company, messages)).await.map(drop)
}

/// Two turns that are due, in the order of their conversations' ids, with their contacts.
async fn two(fixture: &Fixture) -> (CompanyId, [&'static str; 2]) {
    let clinic = fixture.company("clinica.test").await;
    receive(fixture, clinic, &[text(MARIA, "oi"), text(JOAO, "oi")]).await;
    let first = fixture.rows("select send_to from conversations order by conversation_id").await;
    (clinic, if first[0] == MARIA { [MARIA, JOAO] } else { [JOAO, MARIA] })
}

fn alias_of(phone: &str) -> String {
    format!("select from contact_aliases where alias = '{}' for update", Address::phone(phone).unwrap().as_str())
}

#[tokio::test]
async fn messages_in_the_other_order_do_not_deadlock_with_turns_that_end() {
    with_fixture(async |fixture| {
        let (clinic, [low, high]) = two(fixture).await;
        let steps = steps(fixture);
        let both = claim(&steps, 10).await;
        let end = answer("Olá!");
        let results: Vec<_> = both.iter().map(|it| (it, &end)).collect();
        let mut client = fixture.db().get().await.unwrap();
        let blocked = client.transaction().await.unwrap();
        blocked.query(&alias_of(low), &[]).await.unwrap();
        let more = [text(high, "e mais"), text(low, "e mais")];
        let (_, ended) =
            fixture.cross(blocked, handle_messages(fixture, clinic, &more), steps.finish_all(&results)).await;
        assert_eq!(ended, vec![Some(Ending::Done); 2]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn messages_in_the_other_order_do_not_deadlock_with_turns_that_are_claimed() {
    with_fixture(async |fixture| {
        let (clinic, _) = two(fixture).await;
        let by_turn = fixture.rows(
            "select send_to from turns t join conversations using (company_id, conversation_id)
             join jobs j on j.job_key = t.turn_id order by j.due_at, t.turn_id",
        );
        let order = by_turn.await;
        let [low, high] = if order[0] == MARIA { [MARIA, JOAO] } else { [JOAO, MARIA] };
        let steps = steps(fixture);
        let mut client = fixture.db().get().await.unwrap();
        let blocked = client.transaction().await.unwrap();
        blocked.query(&alias_of(low), &[]).await.unwrap();
        let more = [text(high, "e mais"), text(low, "e mais")];
        let (_, claimed) = fixture.cross(blocked, handle_messages(fixture, clinic, &more), steps.claim(10)).await;
        assert_eq!(claimed.len(), 2);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_does_not_deadlock_with_turns_that_end_while_they_are_collecting() {
    with_fixture(async |fixture| {
        let (clinic, _) = two(fixture).await;
        fixture.run("update companies set status = 'suspended'").await;
        let steps = steps(fixture);
        let mut both = claim(&steps, 10).await;
        both.sort_by_key(|it| it.claimed.lease);
        fixture.run("update companies set status = 'active'").await;
        let end = crate::reply::decide::on_open_circuit("Já voltamos.");
        let results: Vec<_> = both.iter().map(|it| (it, &end)).collect();
        let mut client = fixture.db().get().await.unwrap();
        let blocked = client.transaction().await.unwrap();
        let later = both[1].job.turn.0;
        blocked.query("select from turns where turn_id = $1 for update", &[&later]).await.unwrap();
        let sql = format!("select send_to from conversations where conversation_id = '{}'", both[0].job.conversation);
        let of_first = fixture.rows(&sql).await.remove(0);
        let more = [text(&of_first, "tem alguém aí?")];
        let (ended, ()) =
            fixture.cross(blocked, steps.finish_all(&results), handle_messages(fixture, clinic, &more)).await;
        assert_eq!(ended, vec![Some(Ending::Done); 2]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn one_batch_may_have_several_messages_of_several_conversations_in_any_order() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let [one, other] = [MARIA, JOAO].map(|it| move |body: &str| text(it, body));
        let batch = records(fixture, clinic, &[one("a"), other("b"), one("c"), other("d"), one("e")]);
        let mut client = fixture.db().get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let events: Vec<Event<'_, InboundMessage>> = batch
            .iter()
            .map(|record| Event {
                envelope: Envelope::read(record.payload.as_deref().unwrap(), InboundMessageHandler::KINDS).unwrap(),
                record,
                admission: Admission::New,
            })
            .collect();
        let handled = handler().handle(&tx, &events).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((handled.outcomes.len(), handled.jobs.len()), (5, 2), "one outcome per message, one job per turn");
        let mut turns = turns(fixture).await;
        turns.sort();
        assert_eq!(turns, ["collecting | - | 0 | a, c, e", "collecting | - | 0 | b, d"]);
    })
    .await;
}
