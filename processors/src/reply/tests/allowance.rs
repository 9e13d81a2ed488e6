//! A turn's reservation of its company's tokens: one at a time, however often the turn is claimed.

use platform::queue::{Call, Work};

use super::*;
use crate::reply::allowance::{self, Allowance, ReservationRequest};
use crate::tests::with_fixture;

pub(super) const PLENTY: i64 = 1_000_000;

/// A company on the first plan whose month has `limit` tokens.
pub(super) async fn company(fixture: &Fixture, limit: i64) -> CompanyId {
    let clinic = fixture.company("clinica.test").await;
    let sql = "select create_subscription($1, v.plan_version_id) from plan_versions v join plans p using (plan_id)
               where p.code = 'starter'";
    fixture.root.execute(sql, &[&clinic.0]).await.unwrap();
    let sql = "insert into company_overrides (company_id, feature, limit_value, reason)
               values ($1, 'ai_tokens', $2, 'a test')";
    fixture.root.execute(sql, &[&clinic.0, &limit]).await.unwrap();
    clinic
}

async fn held(fixture: &Fixture) -> Vec<String> {
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

/// How many tokens are reserved, by how many reservations; the counter and the reservations agree.
async fn reserved(fixture: &Fixture) -> (i64, i64) {
    let held = held(fixture).await;
    let numbers: Vec<i64> = held[0].split(" | ").map(|it| it.parse().unwrap_or(0)).collect();
    assert_eq!(numbers[0], numbers[2], "{held:?}");
    (numbers[0], numbers[1])
}

/// The steps of a worker whose model may write so many tokens.
fn steps_with_output(fixture: &Fixture, tokens: u32) -> Steps<ModelCalls> {
    let model = gemini::Config { max_output_tokens: tokens, ..config().model };
    steps_with(fixture, Config { model, ..config() })
}

/// Claims the turn, and its worker dies.
async fn claim_and_die(steps: &Steps<ModelCalls>) -> Started<ModelCalls> {
    let started = claim_one(steps).await;
    steps.reclaim().await.unwrap();
    started
}

#[tokio::test]
async fn a_later_claim_of_a_turn_replaces_the_reservation_of_a_dead_worker() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let first = claim_and_die(&steps_with_output(fixture, 600)).await;
        assert_eq!(first.job.allowance, Allowance::Granted);
        let (prompt, count) = reserved(fixture).await;
        assert_eq!(count, 1);
        let prompt = prompt - 600;
        assert!(prompt > 0);

        // A later claim may need more: another amount, for which the first reservation must not take the capacity.
        let limit = format!("update company_overrides set limit_value = {}", prompt + 700);
        fixture.run(&limit).await;
        let second = claim_and_die(&steps_with_output(fixture, 700)).await;
        assert_eq!(second.job.allowance, Allowance::Granted);
        assert_eq!(reserved(fixture).await, (prompt + 700, 1));

        let steps = steps_with_output(fixture, 650);
        let third = claim_one(&steps).await;
        assert_eq!((third.job.turn, third.job.claim), (first.job.turn, 3));
        assert_eq!((reserved(fixture).await, third.job.allowance.clone()), ((prompt + 650, 1), Allowance::Granted));
        let again = ReservationRequest { company: clinic, turn: third.job.turn, claim: 3, tokens: prompt + 650 };
        let mut client = fixture.db().get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let repeated = allowance::reserve(&tx, &[again], Duration::from_secs(60)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(repeated, [Allowance::Granted], "a repeated request finds the same reservation");
        assert_eq!(reserved(fixture).await, (prompt + 650, 1));

        assert_eq!(finish(&steps, &third, &answer("Olá!")).await, Some(Ending::Done));
        assert_eq!(reserved(fixture).await, (0, 0));
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_later_claim_that_is_refused_leaves_no_reservation_of_the_turn() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        claim_and_die(&steps_with_output(fixture, 600)).await;
        let (first, _) = reserved(fixture).await;
        fixture.run(&format!("update company_overrides set limit_value = {first}")).await;
        let steps = steps_with_output(fixture, 601);
        let second = claim_one(&steps).await;
        assert_eq!(second.job.allowance, Allowance::Denied("usage_limit_reached".into()));
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
async fn turns_do_not_release_the_reservations_of_others() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(JOAO, "oi")]).await;
        let both = claim(&steps_with_output(fixture, 300), 10).await;
        let (held, count) = reserved(fixture).await;
        assert_eq!((both.len(), count), (2, 2));
        let prompt = held / 2 - 300;

        let other = steps_with_output(fixture, 400);
        other.reclaim().await.unwrap();
        let again = claim(&other, 1).await.remove(0);
        assert_eq!(reserved(fixture).await, (2 * prompt + 700, 2));
        finish(&other, &again, &answer("Olá!")).await;
        assert_eq!(reserved(fixture).await, (prompt + 300, 1));
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_needs_no_model_reserves_nothing() {
    with_fixture(async |fixture| {
        let clinic = company(fixture, PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        fixture.run("update companies set status = 'suspended'").await;
        assert_eq!(steps_with_output(fixture, 300).run(10).await.unwrap(), 1);
        assert_eq!(fixture.number("select count(*) from usage_reservations").await, 0);
    })
    .await;
}
