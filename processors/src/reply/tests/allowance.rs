//! What a turn holds of its company's tokens: one reservation, however often it is claimed.

use super::*;
use crate::reply::allowance::{self, Allowance};
use crate::reply::claims::claim as claim_for;
use crate::tests::in_a_room;

const DEADLINE: Duration = Duration::from_secs(60);

/// A company on the first plan whose month has `limit` tokens.
async fn company(room: &Room<'_>, limit: i64) -> CompanyId {
    let clinic = room.company("clinica.test").await;
    let sql = "select create_subscription($1, v.plan_version_id) from plan_versions v join plans p using (plan_id)
               where p.code = 'starter'";
    room.root.execute(sql, &[&clinic.0]).await.unwrap();
    let sql = "insert into company_overrides (company_id, feature, limit_value, reason)
               values ($1, 'ai_tokens', $2, 'a test')";
    room.root.execute(sql, &[&clinic.0, &limit]).await.unwrap();
    clinic
}

async fn held(room: &Room<'_>) -> Vec<String> {
    room.rows(
        "select u.reserved, count(r.reservation_id), sum(r.amount)
         from feature_usage u
         left join usage_reservations r
           on r.company_id = u.company_id and r.feature = u.feature and r.state = 'held'
         where u.feature = 'ai_tokens' and u.slot = 0
         group by u.reserved",
    )
    .await
}

async fn reserve(room: &Room<'_>, claim: &Claim, tokens: i64) -> Allowance {
    allowance::reserve(room.db(), claim, tokens, DEADLINE).await.unwrap()
}

/// Claims the turn of a holder that is gone at once.
async fn claim_and_die(room: &Room<'_>) -> Claim {
    claim_for(room.db(), 10, "gone", Duration::ZERO).await.unwrap().jobs.remove(0)
}

#[tokio::test]
async fn a_turn_claimed_again_takes_over_what_its_dead_holder_reserved() {
    in_a_room(async |room| {
        let clinic = company(room, 1_000).await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let first = claim_and_die(room).await;
        assert_eq!(reserve(room, &first, 600).await, Allowance::Granted);
        assert_eq!(held(room).await, ["600 | 1 | 600"]);

        // The prompt of a later claim may be longer: another amount, and room that the first must not take away.
        let second = claim_and_die(room).await;
        assert_eq!(reserve(room, &second, 700).await, Allowance::Granted);
        assert_eq!(held(room).await, ["700 | 1 | 700"]);
        assert_eq!(reserve(room, &second, 700).await, Allowance::Granted, "asked again, it finds the same one");
        assert_eq!(held(room).await, ["700 | 1 | 700"]);

        let third = claim_one(room).await;
        assert_eq!((third.turn, third.claim), (first.turn, 3));
        assert_eq!(reserve(room, &third, 1_000).await, Allowance::Granted);
        assert_eq!(held(room).await, ["1000 | 1 | 1000"]);
        assert_eq!(finish(room, &third, &answer("Olá!")).await, Finish::Done);
        assert_eq!(held(room).await, ["0 | 0 | -"]);
        room.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_later_claim_that_finds_no_room_leaves_nothing_held_by_the_turn() {
    in_a_room(async |room| {
        let clinic = company(room, 1_000).await;
        hear(room, clinic, &[text(MARIA, "oi")]).await;
        let first = claim_and_die(room).await;
        assert_eq!(reserve(room, &first, 600).await, Allowance::Granted);
        let second = claim_one(room).await;
        assert_eq!(reserve(room, &second, 1_001).await, Allowance::Refused("usage_limit_reached".into()));
        assert_eq!(held(room).await, ["0 | 0 | -"]);
    })
    .await;
}

#[tokio::test]
async fn turns_do_not_give_back_what_others_hold() {
    in_a_room(async |room| {
        let clinic = company(room, 1_000).await;
        hear(room, clinic, &[text(MARIA, "oi"), text(JOAO, "olá")]).await;
        let both = claim_for(room.db(), 10, "gone", Duration::ZERO).await.unwrap().jobs;
        for claim in &both {
            assert_eq!(reserve(room, claim, 300).await, Allowance::Granted);
        }
        assert_eq!(held(room).await, ["600 | 2 | 600"]);
        let again = claim(room, 1).await.remove(0);
        assert_eq!(reserve(room, &again, 400).await, Allowance::Granted);
        assert_eq!(held(room).await, ["700 | 2 | 700"]);
    })
    .await;
}
