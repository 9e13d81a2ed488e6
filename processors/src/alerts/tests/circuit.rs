//! A receiver that does not answer: it is not called for a while, and then its deliveries fail.

use platform::queue::CircuitConfig;

use super::*;
use crate::alerts::decide::Endpoint;
use crate::tests::with_fixture;

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_not_called_for_a_while_and_then_its_delivery_fails_without_a_call() {
    with_fixture(async |fixture| {
        let circuit = CircuitConfig { failures: 1, ..CircuitConfig::default() };
        let runner = queue::Config { circuit, ..queue::Config::default() };
        let steps = steps_with(fixture, &Config { runner, ..Config::default() });
        let clinic = with_alerts(fixture, true, &["a", "b"]).await;
        let all = claim(&steps).await;
        let of_company = all.iter().find(|it| it.job.endpoint == Endpoint::Company).unwrap();
        finish(&steps, of_company, BUSY).await;
        fixture.consume(&handler(true), &[record(fixture, &crossing(clinic, "c"))]).await.unwrap();
        steps.make_due().await.unwrap();
        let due = claim(&steps).await;
        assert_eq!(
            due.iter().map(|it| it.job.endpoint).collect::<Vec<_>>(),
            [Endpoint::Operator],
            "of the other circuit"
        );
        let called = "select count(*) from webhook_attempts where endpoint = 'company'";
        assert_eq!(fixture.rows(called).await, ["2"], "those that were under way");
        fixture.conserves().await;
    })
    .await;

    with_fixture(async |fixture| {
        let circuit = CircuitConfig { failures: 1, ..CircuitConfig::default() };
        let runner = queue::Config { circuit, ..queue::Config::default() };
        // A schedule that takes no time is over as soon as the circuit is open.
        let steps = steps_with(fixture, &Config { runner, retry_after_s: AT_ONCE.to_vec(), ..Config::default() });
        with_alerts(fixture, false, &["a"]).await;
        finish(&steps, &claim(&steps).await[0], BUSY).await;
        let held = claim(&steps).await.remove(0);
        let verdict = held.known.unwrap();
        assert_eq!(finish(&steps, &held, verdict).await, Some(Ending::Done));
        assert_eq!(rows(fixture).await, ["company | ended | failed_permanent | circuit_open | 1"]);
        assert_eq!(attempts(fixture).await, ["company | 1 | 1 | FAILED_TEMPORARY | 500 | server_error"]);
        assert_eq!(
            dead_letters(fixture).await,
            ["waiting | circuit_open | the company's webhook was not taken in 1 attempts, lastly circuit_open | 1"]
        );
        fixture.conserves().await;
    })
    .await;
}
