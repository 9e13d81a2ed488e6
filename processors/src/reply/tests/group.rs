//! Several turns that end in one transaction, each with its own result, in any order of the results.

use futures_util::future::try_join_all;

use platform::egress::TransportError;

use super::*;
use crate::reply::decide;
use crate::tests::with_fixture;

const PHONES: [&str; 4] = [MARIA, JOAO, "5511999990003", "5511999990004"];

#[tokio::test]
async fn turns_that_end_in_one_transaction_have_their_own_results() {
    with_fixture(async |fixture| {
        let (clinic, salon) = (fixture.company("clinica.test").await, fixture.company("salao.test").await);
        for company in [salon, clinic] {
            let messages: Vec<_> = PHONES.iter().map(|phone| text(phone, &format!("{company} de {phone}"))).collect();
            receive(fixture, company, &messages).await;
            receive(fixture, company, &[text(MARIA, "e mais uma coisa")]).await;
        }
        let steps = steps(fixture);
        let mut group = claim(&steps, 10).await;
        assert_eq!(group.len(), 8);
        // Results come in any order.
        group.reverse();
        let ends: Vec<TurnEnd> = group
            .iter()
            .map(|it| match it.job.history[0].1.rsplit_once(' ').unwrap().1 {
                MARIA => answer("à Maria"),
                JOAO => {
                    decide::on_answer(Err(gemini::ModelError::Transport(TransportError::Timeout)), &[], "Já voltamos.")
                }
                "5511999990003" => decide::on_suspension(),
                other => answer(other),
            })
            .collect();
        let results: Vec<_> = group.iter().zip(&ends).collect();
        assert_eq!(steps.finish_all(&results).await.unwrap(), vec![Some(Ending::Done); 8]);

        for company in [clinic, salon] {
            let rows = format!(
                "select t.outcome, t.reason, string_agg(m.body, ', ' order by m.position)
                 from turns t join messages m using (company_id, turn_id)
                 where company_id = {company}
                 group by t.turn_id, t.outcome, t.reason order by min(m.body collate \"C\")"
            );
            assert_eq!(
                fixture.rows(&rows).await,
                [
                    format!("replied | - | {company} de {MARIA}, e mais uma coisa, à Maria"),
                    format!("fallback | timeout | {company} de {JOAO}, Já voltamos."),
                    format!("ignored | company_inactive | {company} de 5511999990003"),
                    format!("replied | - | {company} de 5511999990004, 5511999990004"),
                ]
            );
        }
        assert_eq!(outcomes(fixture).await, ["done | - | 8", "ignored | company_inactive | 2"]);
        // Each answer goes to the contact of its own conversation.
        let outbound = fixture.publish(Topic::OutboundMessages).await;
        assert_eq!(outbound.len(), 6);
        for record in outbound {
            let payload = record.payload.as_deref().unwrap();
            let outbound_message: Envelope<domain::OutboundMessage> =
                Envelope::read(payload, &[Kind::OutboundMessage]).unwrap();
            let contact = PHONES.iter().position(|it| *it == outbound_message.payload.to).unwrap();
            assert_eq!(outbound_message.payload.body, ["à Maria", "Já voltamos.", "", "5511999990004"][contact]);
            assert_eq!(outbound_message.payload.position, if contact == 0 { 3 } else { 2 });
        }
        let mut events: Vec<String> =
            fixture.activity().await.iter().map(|it| format!("{} {:?}", it.company_id, it.event_id)).collect();
        events.sort();
        events.dedup();
        assert_eq!(events.len(), 8);
        assert_eq!(fixture.rows("select count(*), sum(amount) from usage_events").await, ["4 | 440"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn of_a_group_the_result_whose_lease_was_lost_is_void_and_the_others_count() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &PHONES.map(|phone| text(phone, phone))).await;
        let steps = steps(fixture);
        let mut group = claim(&steps, 1).await;
        steps.reclaim().await.unwrap();
        group.extend(claim(&steps, 10).await);
        assert_eq!(group.len(), 5);
        let end = answer("Olá!");
        let results: Vec<_> = group.iter().map(|it| (it, &end)).collect();
        let ended = steps.finish_all(&results).await.unwrap();
        assert_eq!(ended, [None, Some(Ending::Done), Some(Ending::Done), Some(Ending::Done), Some(Ending::Done)]);
        assert_eq!(fixture.rows("select count(*) from messages where direction = 'out'").await, ["4"]);
        fixture.conserves().await;
    })
    .await;
}

/// Two concurrent groups of turns of the same companies, while further messages arrive: there is no deadlock.
#[tokio::test]
async fn groups_that_end_while_messages_arrive_do_not_deadlock() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        let steps = steps(fixture);
        let companies =
            [fixture.company("a.test").await, fixture.company("b.test").await, fixture.company("c.test").await];
        for round in 0..10 {
            for company in companies {
                receive(fixture, company, &PHONES.map(|phone| text(phone, &format!("{round}")))).await;
            }
            let all = claim(&steps, 100).await;
            assert_eq!(all.len(), 12);
            let end = answer("Olá!");
            // Every other turn, one way and the other way round.
            let evens: Vec<_> = all.iter().step_by(2).map(|it| (it, &end)).collect();
            let odds: Vec<_> = all.iter().skip(1).step_by(2).rev().map(|it| (it, &end)).collect();
            let more: Vec<Vec<Record>> = companies
                .iter()
                .map(|&company| {
                    let backwards = PHONES.iter().rev();
                    records(fixture, company, &backwards.map(|it| text(it, &format!("{round}b"))).collect::<Vec<_>>())
                })
                .collect();
            let handler = handler();
            let (ended, handled) = tokio::join!(
                try_join_all([steps.finish_all(&evens), steps.finish_all(&odds)]),
                try_join_all(more.iter().map(|batch| fixture.consume(&handler, batch)))
            );
            assert!(ended.unwrap().into_iter().flatten().all(|it| it == Some(Ending::Done)));
            assert_eq!(handled.unwrap().len(), 3);
            let rest = claim(&steps, 100).await;
            let results: Vec<_> = rest.iter().map(|it| (it, &end)).collect();
            steps.finish_all(&results).await.unwrap();
        }
        assert_eq!(fixture.rows("select distinct state from turns").await, ["ended"]);
        assert_eq!(fixture.rows("select count(*) from messages where direction = 'in'").await, ["240"]);
        fixture.conserves().await;
    })
    .await;
}
