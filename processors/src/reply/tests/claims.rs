//! Who may answer a turn, and what is seen of the conversation.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::super::claims::{claim as claim_for, renew, take_back};
use super::*;
use crate::tests::in_a_room;

/// A phone number of nobody's.
fn phone(number: usize) -> String {
    format!("551199999{number:04}")
}

#[tokio::test]
async fn a_message_in_the_middle_opens_the_next_turn_which_waits_for_the_first() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "quanto custa?")]).await;
        let first = claim_one(room).await;
        hear(room, clinic, &[text(MARIA, "e o horário?")]).await;
        assert_eq!(turns(room).await, ["answering | - | 1 | quanto custa?", "collecting | - | 0 | e o horário?"]);
        assert_eq!(claim(room, 10).await.len(), 0, "one turn of a conversation is answered at a time");

        assert_eq!(finish(room, &first, &answer("R$ 150.")).await, Finish::Done);
        let second = claim_one(room).await;
        assert_ne!(second.turn, first.turn);
        assert_eq!(finish(room, &second, &answer("Das 8h às 18h.")).await, Finish::Done);
        assert_eq!(
            turns(room).await,
            ["ended | replied | 1 | quanto custa?, R$ 150.", "ended | replied | 1 | e o horário?, Das 8h às 18h."]
        );
        assert_eq!(room.waiting(Topic::OutboundMessages).await, [reply_of(&first), reply_of(&second)]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_turn_knows_what_was_said_before_it_and_nothing_that_came_after() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        let memory = async |claim: &Claim| -> Vec<String> {
            let said = context(room, claim).await.memory;
            said.into_iter().map(|(ours, text)| format!("{}{text}", if ours { "> " } else { "" })).collect()
        };
        hear(room, clinic, &[text(MARIA, "oi"), text(MARIA, "quanto custa?")]).await;
        let first = claim_one(room).await;
        hear(room, clinic, &[text(MARIA, "e o horário?")]).await;
        assert_eq!(memory(&first).await, ["oi", "quanto custa?"], "the next turn's message is not seen");

        finish(room, &first, &answer("R$ 150.")).await;
        let second = claim_one(room).await;
        assert_eq!(
            memory(&second).await,
            ["oi", "quanto custa?", "> R$ 150.", "e o horário?"],
            "what we said meanwhile is, or it would be said twice"
        );
    })
    .await;
}

#[tokio::test]
async fn earlier_messages_are_remembered_up_to_a_number_and_a_turns_own_come_on_top() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        for it in 0..4 {
            hear(room, clinic, &[text(MARIA, &format!("pergunta {it}"))]).await;
            finish(room, &claim_one(room).await, &answer(&format!("resposta {it}"))).await;
        }
        hear(room, clinic, &[text(MARIA, "a"), text(MARIA, "b"), text(MARIA, "c")]).await;
        let turn = claim_one(room).await;
        let context = super::super::claims::context(room.db(), &turn, 2).await.unwrap().unwrap();
        let said: Vec<&str> = context.memory.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(said, ["pergunta 3", "resposta 3", "a", "b", "c"]);
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_one_company_does_not_keep_another_waiting() {
    in_a_room(async |room| {
        let (loud, quiet) = (room.company("barulho.test").await, room.company("calma.test").await);
        let flood: Vec<_> = (0..50).map(|it| text(&phone(it), "oi")).collect();
        hear(room, loud, &flood).await;
        hear(room, quiet, &[text(MARIA, "oi")]).await;
        let two: HashSet<_> = claim(room, 2).await.iter().map(|it| it.company).collect();
        assert_eq!(two, HashSet::from([loud, quiet]), "each has a place before one has two");
        let four = claim(room, 4).await;
        assert!(four.len() == 4 && four.iter().all(|it| it.company == loud), "and then the rest is the flood's");
    })
    .await;
}

#[tokio::test]
async fn many_claimants_at_once_get_each_turn_once() {
    in_a_room(async |room| {
        room.expect_a_crowd().await;
        let companies = [room.company("a.test").await, room.company("b.test").await, room.company("c.test").await];
        for company in companies {
            hear(room, company, &(0..20).map(|it| text(&phone(it), "oi")).collect::<Vec<_>>()).await;
        }
        let mut claimed = Vec::new();
        // One that finds everything locked by others may go home with nothing, so it asks again, but not for ever.
        for _ in 0..20 {
            claimed.extend(join_all((0..8).map(|_| claim(room, 5))).await.into_iter().flatten());
        }
        let distinct: HashSet<_> = claimed.iter().map(|it| it.turn).collect();
        assert_eq!((claimed.len(), distinct.len()), (60, 60));
        assert!(claimed.iter().all(|it| it.claim == 1));
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_ran_out_is_anothers_and_its_first_holder_leaves_nothing_behind() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let slow = claim_for(room.db(), 10, "slow", Duration::ZERO).await.unwrap().jobs.remove(0);
        let quick = claim_one(room).await;
        assert_eq!((quick.turn, quick.claim), (slow.turn, 2));

        assert_eq!(finish(room, &slow, &answer("tarde demais")).await, Finish::Lost);
        assert_eq!(turns(room).await, ["answering | - | 2 | oi"]);
        assert_eq!(room.rows("select * from outbox").await, [""; 0]);
        assert_eq!(marks(room).await, ["in_flight | - | 1"]);

        assert_eq!(finish(room, &quick, &answer("Olá!")).await, Finish::Done);
        assert_eq!(finish(room, &slow, &answer("tarde demais")).await, Finish::Lost, "nor once it has ended");
        assert_eq!(finish(room, &quick, &answer("Olá!")).await, Finish::Lost, "and nobody ends it twice");
        assert_eq!(turns(room).await, ["ended | replied | 2 | oi, Olá!"]);
        assert_eq!(room.waiting(Topic::OutboundMessages).await, [reply_of(&quick)]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_renewed_claim_does_not_run_out_and_a_lost_one_is_not_renewed() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let first = claim_for(room.db(), 10, "one", Duration::ZERO).await.unwrap().jobs.remove(0);
        renew(room.db(), &[(clinic, first.turn, 1)], LONG).await.unwrap();
        assert_eq!(claim(room, 10).await.len(), 0);

        renew(room.db(), &[(clinic, first.turn, 1)], Duration::ZERO).await.unwrap();
        let second = claim_for(room.db(), 10, "two", Duration::ZERO).await.unwrap().jobs.remove(0);
        renew(room.db(), &[(clinic, first.turn, 1)], LONG).await.unwrap();
        assert_eq!(claim_one(room).await.claim, second.claim + 1, "its holder had lost it");
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_starts_again_takes_back_its_own_claims_and_no_others() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &[text(MARIA, "oi"), text(JOAO, "olá")]).await;
        let mine = claim_for(room.db(), 1, "one", LONG).await.unwrap().jobs.remove(0);
        claim_for(room.db(), 1, "two", LONG).await.unwrap();
        assert_eq!(take_back(room.db(), "three").await.unwrap(), 0);
        assert_eq!(claim(room, 10).await.len(), 0);
        assert_eq!(take_back(room.db(), "one").await.unwrap(), 1);
        assert_eq!(claim_one(room).await.turn, mine.turn);
    })
    .await;
}

#[tokio::test]
async fn of_what_is_due_and_what_was_abandoned_no_more_is_claimed_than_asked_for() {
    in_a_room(async |room| {
        let clinic = room.company("clinica.test").await;
        hear(room, clinic, &(0..6).map(|it| text(&phone(it), "oi")).collect::<Vec<_>>()).await;
        claim_for(room.db(), 3, "gone", Duration::ZERO).await.unwrap();
        assert_eq!(claim(room, 0).await.len(), 0);
        let four = claim(room, 4).await;
        assert_eq!(four.iter().filter(|it| it.claim == 2).count(), 3, "the abandoned have waited longest");
        assert_eq!((four.len(), claim(room, 10).await.len()), (4, 2));
    })
    .await;
}
