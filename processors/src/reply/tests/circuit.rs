//! A model that does not answer: turns are held back until their deadline, and then end with the fallback text.

use platform::egress::TransportError;
use platform::queue::CircuitConfig;

use super::*;
use crate::reply::decide;
use crate::tests::with_fixture;

const DEADLINE: Duration = Duration::from_secs(60);

/// Steps whose circuit opens with the first failure.
fn steps_that_open_at_once(fixture: &Fixture) -> Steps<ModelCalls> {
    let circuit = CircuitConfig { failures: 1, ..CircuitConfig::default() };
    let deadline_ms = u64::try_from(DEADLINE.as_millis()).unwrap();
    steps_with(
        fixture,
        Config { runner: queue::Config { circuit, ..queue::Config::default() }, deadline_ms, ..config() },
    )
}

/// Ends a turn of one company with a model error, which opens the circuit for all companies.
async fn open_the_circuit(fixture: &Fixture, steps: &Steps<ModelCalls>) {
    let salon = fixture.company("salao.test").await;
    receive(fixture, salon, &[text(JOAO, "olá")]).await;
    let failed = decide::on_answer(Err(gemini::ModelError::Transport(TransportError::Timeout)), &[], "Já voltamos.");
    assert_eq!(failed.health, Health::Failing);
    finish(steps, &claim_one(steps).await, &failed).await;
}

#[tokio::test]
async fn while_the_circuit_is_open_turns_wait_and_go_on_collecting() {
    with_fixture(async |fixture| {
        let steps = steps_that_open_at_once(fixture);
        open_the_circuit(fixture, &steps).await;
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        for _ in 0..3 {
            assert_eq!(claim(&steps, 10).await.len(), 0);
            assert_eq!(fixture.jobs("reply").await, ["scheduled | 0"], "held back, which is not counted as an attempt");
            steps.make_due().await.unwrap();
        }
        receive(fixture, clinic, &[text(MARIA, "tem alguém aí?")]).await;
        let turns = turns(fixture).await;
        assert!(turns.contains(&"collecting | - | 0 | oi, tem alguém aí?".to_owned()), "{turns:?}");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_is_held_back_until_its_deadline_ends_with_the_fallback_text() {
    with_fixture(async |fixture| {
        let steps = steps_that_open_at_once(fixture);
        open_the_circuit(fixture, &steps).await;
        let clinic = fixture.company("clinica.test").await;
        fixture.run(&format!("update companies set fallback_text = 'Já voltamos.' where company_id = {clinic}")).await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        // It became due a deadline ago.
        let past = format!("due_at = due_at - interval '{} seconds'", DEADLINE.as_secs());
        fixture
            .run(&format!("update jobs set {past}; update jobs_scheduled set {past}; update jobs_ready set {past}"))
            .await;
        let held = claim_one(&steps).await;
        let end = held.known.clone().unwrap();
        assert_eq!(finish(&steps, &held, &end).await, Some(Ending::Done));
        let of_clinic = format!("select outcome, reason, claims from turns where company_id = {clinic}");
        assert_eq!(fixture.rows(&of_clinic).await, ["fallback | circuit_open | 0"]);
        let turns = turns(fixture).await;
        assert!(turns.contains(&"ended | fallback | 0 | oi, Já voltamos.".to_owned()), "{turns:?}");
        assert_eq!(fixture.waiting(Topic::OutboundMessages).await.len(), 2, "both contacts get a message");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_that_arrives_while_its_turn_ends_without_a_call_is_answered_with_it() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        receive(fixture, clinic, &[text(MARIA, "oi")]).await;
        let steps = steps(fixture);
        let end = decide::on_open_circuit("Já voltamos.");
        fixture.run("update companies set status = 'suspended'").await;
        let known = claim_one(&steps).await;
        assert!(known.known.is_some(), "it is still collecting");
        fixture.run("update companies set status = 'active'").await;
        receive(fixture, clinic, &[text(MARIA, "tem alguém aí?")]).await;
        finish(&steps, &known, &end).await;
        assert_eq!(turns(fixture).await, ["ended | fallback | 0 | oi, tem alguém aí?, Já voltamos."]);
        assert_eq!(outcomes(fixture).await, ["done | - | 2"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn the_worker_ends_a_turn_at_its_deadline_that_the_open_circuit_held_back() {
    with_fixture(async |fixture| {
        let clinic = allowance::company(fixture, allowance::PLENTY).await;
        receive(fixture, clinic, &[text(MARIA, "oi"), text(JOAO, "olá")]).await;
        let circuit = CircuitConfig { failures: 1, open_ms: 3_600_000, open_cap_ms: 3_600_000 };
        // One at a time: the second is ready while the first finds that the model does not answer.
        let runner = queue::Config { circuit, company_cap: 1, ..queue::Config::default() };
        let config = Config { deadline_ms: 300, ..config() };
        let work = ModelCalls::new(&fixture.context(), &config).unwrap();
        fixture.work_until(work, runner, "select count(*) = 2 from turns where state = 'ended'").await;
        let ended = fixture.rows("select outcome, reason, claims from turns order by claims desc").await;
        assert_eq!(ended[1], "fallback | circuit_open | 0", "without another call: {ended:?}");
        assert!(ended[0].starts_with("fallback | ") && ended[0].ends_with(" | 1"), "{ended:?}");
        assert_eq!(fixture.waiting(Topic::OutboundMessages).await.len(), 2, "both contacts get a message");
        fixture.conserves().await;
    })
    .await;
}
