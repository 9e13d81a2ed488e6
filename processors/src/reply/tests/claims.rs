//! Claims of turns, and which messages of the conversation an answer sees.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::*;
use crate::tests::with_fixture;

/// Lets the leases of turns expire, and claims one of them again.
async fn claim_again(steps: &Steps<ModelCalls>, turn: &Started<ModelCalls>) -> Started<ModelCalls> {
    steps.reclaim().await.unwrap();
    let again = claim(steps, 10).await.into_iter().find(|it| it.job.turn == turn.job.turn).unwrap();
    assert_eq!(again.job.claim, turn.job.claim + 1);
    again
}

/// An invented phone number.
fn phone(number: usize) -> String {
    format!("551199999{number:04}")
}

#[tokio::test]
async fn a_message_during_a_call_opens_the_next_turn_which_waits_for_the_first() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "quanto custa?")]).await;
        let steps = steps(fixture);
        let first = claim_one(&steps).await;
        receive(fixture, clinic, &[text(MARIA, "e o horário?")]).await;
        assert_eq!(turns(fixture).await, ["answering | - | 1 | quanto custa?", "collecting | - | 0 | e o horário?"]);
        assert_eq!(claim(&steps, 10).await.len(), 0, "one turn of a conversation is answered at a time");

        assert_eq!(finish(&steps, &first, &answer("R$ 150.")).await, Some(Ending::Done));
        let second = claim_one(&steps).await;
        assert_ne!(second.job.turn, first.job.turn);
        assert_eq!(finish(&steps, &second, &answer("Das 8h às 18h.")).await, Some(Ending::Done));
        assert_eq!(
            turns(fixture).await,
            ["ended | replied | 1 | quanto custa?, R$ 150.", "ended | replied | 1 | e o horário?, Das 8h às 18h."]
        );
        assert_eq!(fixture.waiting(Topic::OutboundMessages).await, [reply_of(&first), reply_of(&second)]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_turn_sees_the_messages_before_it_and_none_after_it() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture);
        receive(fixture, clinic, &[text(MARIA, "oi"), text(MARIA, "quanto custa?")]).await;
        receive(fixture, clinic, &[text(JOAO, "olá")]).await;
        let both = claim(&steps, 10).await;
        assert_eq!(both.iter().map(history).collect::<Vec<_>>(), [vec!["oi", "quanto custa?"], vec!["olá"]]);
        receive(fixture, clinic, &[text(MARIA, "e o horário?")]).await;
        let first = claim_again(&steps, &both[0]).await;
        assert_eq!(history(&first), ["oi", "quanto custa?"], "the next turn's message is not seen");

        finish(&steps, &first, &answer("R$ 150.")).await;
        let second = claim_one(&steps).await;
        assert_eq!(
            history(&second),
            ["oi", "quanto custa?", "> R$ 150.", "e o horário?"],
            "our message of the meantime is seen, or it would be repeated"
        );
    })
    .await;
}

#[tokio::test]
async fn a_turn_sees_its_own_messages_and_a_limited_number_before_them() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps_with(fixture, Config { memory_messages: 2, ..config() });
        for it in 0..4 {
            receive(fixture, clinic, &[text(MARIA, &format!("pergunta {it}"))]).await;
            finish(&steps, &claim_one(&steps).await, &answer(&format!("resposta {it}"))).await;
        }
        receive(fixture, clinic, &[text(MARIA, "a"), text(MARIA, "b"), text(MARIA, "c")]).await;
        assert_eq!(history(&claim_one(&steps).await), ["pergunta 3", "> resposta 3", "a", "b", "c"]);
    })
    .await;
}

#[tokio::test]
async fn many_turns_of_one_company_do_not_delay_another() {
    with_fixture(async |fixture| {
        let (loud, quiet) = (fixture.company("barulho.test").await, fixture.company("calma.test").await);
        let many: Vec<_> = (0..50).map(|it| text(&phone(it), "oi")).collect();
        receive(fixture, loud, &many).await;
        receive(fixture, quiet, &[text(MARIA, "oi")]).await;
        let steps = steps(fixture);
        let two: HashSet<_> = claim(&steps, 2).await.iter().map(|it| it.job.company).collect();
        assert_eq!(two, HashSet::from([loud, quiet]), "each has a slot before one has two");
        let four = claim(&steps, 4).await;
        assert!(four.len() == 4 && four.iter().all(|it| it.job.company == loud), "and then the rest is claimed");
    })
    .await;
}

#[tokio::test]
async fn concurrent_claims_get_each_turn_once() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        let companies =
            [fixture.company("a.test").await, fixture.company("b.test").await, fixture.company("c.test").await];
        for company in companies {
            receive(fixture, company, &(0..20).map(|it| text(&phone(it), "oi")).collect::<Vec<_>>()).await;
        }
        let steps = steps(fixture);
        let mut claimed = Vec::new();
        // A claim that finds every job locked by others returns nothing, so it is repeated a limited number of times.
        for _ in 0..20 {
            claimed.extend(join_all((0..8).map(|_| claim(&steps, 5))).await.into_iter().flatten());
        }
        let distinct: HashSet<_> = claimed.iter().map(|it| it.job.turn).collect();
        assert_eq!((claimed.len(), distinct.len()), (60, 60));
        assert!(claimed.iter().all(|it| it.job.claim == 1));
        assert_eq!(fixture.rows("select distinct state, claims from turns").await, ["answering | 1"]);
    })
    .await;
}

#[tokio::test]
async fn a_turn_whose_lease_ran_out_is_claimed_again_and_the_first_result_is_void() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let steps = steps(fixture);
        let slow = claim_one(&steps).await;
        let quick = claim_again(&steps, &slow).await;

        assert_eq!(finish(&steps, &slow, &answer("tarde demais")).await, None);
        assert_eq!(turns(fixture).await, ["answering | - | 2 | oi"]);
        assert_eq!(fixture.rows("select * from outbox").await, [""; 0]);
        assert_eq!(outcomes(fixture).await, ["in_flight | - | 1"]);

        assert_eq!(finish(&steps, &quick, &answer("Olá!")).await, Some(Ending::Done));
        assert_eq!(finish(&steps, &slow, &answer("tarde demais")).await, None, "and after it has ended too");
        assert_eq!(finish(&steps, &quick, &answer("Olá!")).await, None, "a turn ends once");
        assert_eq!(turns(fixture).await, ["ended | replied | 2 | oi, Olá!"]);
        assert_eq!(fixture.waiting(Topic::OutboundMessages).await, [reply_of(&quick)]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_starts_again_reclaims_its_own_leases_and_no_others() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(JOAO, "olá")]).await;
        let of = |instance| {
            let config = config();
            fixture.steps_of(instance, ModelCalls::new(&fixture.context(), &config).unwrap(), config.runner)
        };
        let (one, two, three) = (of("one"), of("two"), of("three"));
        let mine = claim(&one, 1).await.remove(0);
        claim(&two, 1).await;
        assert_eq!(three.reclaim().await.unwrap(), 0);
        assert_eq!(claim(&one, 10).await.len(), 0);
        assert_eq!(one.reclaim().await.unwrap(), 1);
        assert_eq!(claim_one(&one).await.job.turn, mine.job.turn);
    })
    .await;
}

#[tokio::test]
async fn of_due_and_reclaimed_turns_no_more_are_claimed_than_requested() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture);
        receive(fixture, clinic, &(0..6).map(|it| text(&phone(it), "oi")).collect::<Vec<_>>()).await;
        assert_eq!(claim(&steps, 3).await.len(), 3);
        assert_eq!(steps.reclaim().await.unwrap(), 3);
        assert_eq!(claim(&steps, 0).await.len(), 0);
        let five = claim(&steps, 5).await;
        assert_eq!(five.iter().filter(|it| it.job.claim == 2).count(), 2);
        assert_eq!((five.len(), claim(&steps, 10).await.len()), (5, 1));
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_was_released_before_its_call_is_answered_however_often_that_was() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture);
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        for _ in 0..12 {
            let turn = claim_one(&steps).await;
            steps.release(turn).await;
        }
        let turn = claim_one(&steps).await;
        assert!(turn.known.is_none());
        assert_eq!(finish(&steps, &turn, &answer("olá")).await, Some(Ending::Done));
        assert_eq!(fixture.rows("select outcome, claims from turns").await, ["replied | 13"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_no_worker_survives_ends_in_the_fallback_without_another_model_call() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let steps = steps(fixture);
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        for _ in 0..10 {
            assert!(claim_one(&steps).await.known.is_none());
            steps.reclaim().await.unwrap();
        }
        assert_eq!(steps.run(10).await.unwrap(), 1);
        assert_eq!(
            fixture.rows("select outcome, reason, claims from turns").await,
            ["fallback | too_many_claims | 10"]
        );
        assert_eq!(
            fixture.rows("select body from messages where direction = 'out'").await,
            [Config::default().fallback_text.as_str()]
        );
        fixture.conserves().await;
    })
    .await;
}
