//! What a turn holds of its company's tokens: one reservation, however often it is claimed.

use platform::queue::{Call, Work};

use super::*;
use crate::reply::allowance::{self, Allowance, ReservationRequest};
use crate::tests::with_fixture;

pub(super) const PLENTY: i64 = 1_000_000;

/// A company on the first plan whose month has `limit` tokens.
pub(super) async fn company(fixture: &Fixture<'_>, limit: i64) -> CompanyId {
    let clinic = fixture.company("clinica.test").await;
    let sql = "select create_subscription($1, v.plan_version_id) from plan_versions v join plans p using (plan_id)
               where p.code = 'starter'";
    fixture.root.execute(sql, &[&clinic.0]).await.unwrap();
    let sql = "insert into company_overrides (company_id, feature, limit_value, reason)
               values ($1, 'ai_tokens', $2, 'a test')";
    fixture.root.execute(sql, &[&clinic.0, &limit]).await.unwrap();
    clinic
}

async fn held(fixture: &Fixture<'_>) -> Vec<String> {
    fixture
        .rows(
            "select u.reserved, count(r.reservation_id), sum(r.amount)
         from feature_usage u
         left join usage_reservations r
           on r.company_id = u.company_id and r.feature = u.feature and r.state = 'held'
         where u.feature = 'ai_tokens' and u.slot = 0
         group by u.reserved",
        )
        .await
}

/// How many tokens are held, by how many reservations; both sums agree.
async fn reserved(fixture: &Fixture<'_>) -> (i64, i64) {
    let held = held(fixture).await;
    let numbers: Vec<i64> = held[0].split(" | ").map(|it| it.parse().unwrap_or(0)).collect();
    assert_eq!(numbers[0], numbers[2], "{held:?}");
    (numbers[0], numbers[1])
}

/// The steps of a worker whose model may say so many tokens.
fn saying(fixture: &Fixture<'_>, tokens: u32) -> Steps<Answering> {
    let model = gemini::Config { max_output_tokens: tokens, ..config().model };
    steps_with(fixture, Config { model, ..config() })
}

/// Claims the turn, and its worker dies.
async fn claim_and_die(steps: &Steps<Answering>) -> Started<Answering> {
    let started = claim_one(steps).await;
    steps.reclaim().await.unwrap();
    started
}

#[tokio::test]
async fn a_turn_claimed_again_takes_over_what_its_dead_holder_reserved() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let first = claim_and_die(&saying(fixture, 600)).await;
        assert_eq!(first.job.allowance, Allowance::Granted);
        let (prompt, count) = reserved(fixture).await;
        assert_eq!(count, 1);
        let prompt = prompt - 600;
        assert!(prompt > 0);

        // What a later claim may use may be more: another amount, and fixture that the first must not take away.
        let limit = format!("update company_overrides set limit_value = {}", prompt + 700);
        fixture.run(&limit).await;
        let second = claim_and_die(&saying(fixture, 700)).await;
        assert_eq!(second.job.allowance, Allowance::Granted);
        assert_eq!(reserved(fixture).await, (prompt + 700, 1));

        let steps = saying(fixture, 650);
        let third = claim_one(&steps).await;
        assert_eq!((third.job.turn, third.job.claim), (first.job.turn, 3));
        assert_eq!((reserved(fixture).await, third.job.allowance.clone()), ((prompt + 650, 1), Allowance::Granted));
        let again = ReservationRequest { company: clinic, turn: third.job.turn, claim: 3, tokens: prompt + 650 };
        let mut client = fixture.db().get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let asked_again = allowance::reserve(&tx, &[again], Duration::from_secs(60)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(asked_again, [Allowance::Granted], "asked again, it finds the same one");
        assert_eq!(reserved(fixture).await, (prompt + 650, 1));

        assert_eq!(finish(&steps, &third, &answer("Olá!")).await, Some(Ending::Done));
        assert_eq!(reserved(fixture).await, (0, 0));
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_later_claim_that_finds_no_room_leaves_nothing_held_by_the_turn() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        claim_and_die(&saying(fixture, 600)).await;
        let (first, _) = reserved(fixture).await;
        fixture.run(&format!("update company_overrides set limit_value = {first}")).await;
        let steps = saying(fixture, 601);
        let second = claim_one(&steps).await;
        assert_eq!(second.job.allowance, Allowance::Refused("usage_limit_reached".into()));
        assert_eq!(reserved(fixture).await, (0, 0));

        let instead = steps.work().call(&second.claimed, &second.job, &Call::default()).await;
        assert_eq!(instead.text, Some(Config::default().limit_text));
        finish(&steps, &second, &instead).await;
        assert_eq!(turns(fixture).await.len(), 1);
        assert_eq!(fixture.rows("select outcome, reason from turns").await, ["fallback | usage_limit_reached"]);
    })
    .await;
}

#[tokio::test]
async fn turns_do_not_give_back_what_others_hold() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(JOAO, "oi")]).await;
        let both = claim(&saying(fixture, 300), 10).await;
        let (held, count) = reserved(fixture).await;
        assert_eq!((both.len(), count), (2, 2));
        let prompt = held / 2 - 300;

        let other = saying(fixture, 400);
        other.reclaim().await.unwrap();
        let again = claim(&other, 1).await.remove(0);
        assert_eq!(reserved(fixture).await, (2 * prompt + 700, 2));
        finish(&other, &again, &answer("Olá!")).await;
        assert_eq!(reserved(fixture).await, (prompt + 300, 1));
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_is_held_back_or_needs_no_model_reserves_nothing() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        fixture.run("update companies set status = 'suspended'").await;
        assert_eq!(saying(fixture, 300).run(10).await.unwrap(), 1);
        assert_eq!(fixture.number("select count(*) from usage_reservations").await, 0);
    })
    .await;
}
