//! Rows: which deliveries an event gets, how they end, and what a replay changes. Each test has its own database.

use platform::seal::SecretColumn;
use sandbox::{Filter as Seen, Receiver as SandboxReceiver, Sandbox};

use super::*;
use crate::alerts::decide::Endpoint;
use crate::dead_letters::{self, Filter, Run};
use crate::tests::{sealer, with_fixture};

#[tokio::test]
async fn an_event_has_one_delivery_per_endpoint_however_often_it_is_read() {
    with_fixture(async |fixture| {
        let salon = fixture.company("salao.test").await;
        let clinic = with_alerts(fixture, true, &["a", "a"]).await;
        assert_eq!(rows(fixture).await, ["company | waiting | - | - | 0", "operator | waiting | - | - | 0"]);
        let bodies = "select distinct body from webhook_deliveries";
        assert_eq!(fixture.rows(bodies).await, [message::body(&crossing(clinic, "a"), "clinica.test")]);

        fixture.consume(&handler(false), &[record(fixture, &crossing(salon, "b"))]).await.unwrap();
        assert_eq!(outcomes(fixture).await, ["ignored | no_webhook | 1", "in_flight | - | 1"]);
        fixture.run("update company_webhooks set enabled = false").await;
        fixture.consume(&handler(false), &[record(fixture, &crossing(clinic, "c"))]).await.unwrap();
        assert_eq!(
            outcomes(fixture).await,
            ["ignored | no_webhook | 2", "in_flight | - | 1"],
            "a disabled webhook counts as none"
        );
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_call_is_retried_until_it_is_accepted() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        with_alerts(fixture, false, &["a"]).await;
        for response in [BUSY, Verdict::unknown("timeout").into(), ACCEPTED] {
            let started = claim(&steps).await.remove(0);
            assert!(claim(&steps).await.is_empty(), "what is under way is not claimed again");
            finish(&steps, &started, response).await;
            fixture.conserves().await;
        }
        assert_eq!(
            attempts(fixture).await,
            [
                "company | 1 | 1 | FAILED_TEMPORARY | 500 | server_error",
                "company | 2 | 2 | UNKNOWN | - | timeout",
                "company | 3 | 3 | DELIVERED | 204 | -",
            ]
        );
        assert_eq!(
            (rows(fixture).await, outcomes(fixture).await),
            (vec!["company | ended | delivered | - | 3".into()], vec!["done | - | 1".into()])
        );
        assert_eq!(fixture.rows("select count(*) from webhook_deliveries where record_payload is null").await, ["1"]);
        assert!(claim(&steps).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_event_has_ended_when_both_deliveries_have() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        with_alerts(fixture, true, &["a"]).await;
        let started = claim(&steps).await;
        assert_eq!(
            started.iter().map(|it| it.job.endpoint).collect::<Vec<_>>(),
            [Endpoint::Company, Endpoint::Operator]
        );
        finish(&steps, &started[1], ACCEPTED).await;
        assert_eq!(outcomes(fixture).await, ["in_flight | - | 1"]);
        fixture.conserves().await;
        finish(&steps, &started[0], ACCEPTED).await;
        assert_eq!(outcomes(fixture).await, ["done | - | 1"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_failed_delivery_dead_letters_its_event_and_a_replay_repeats_that_one_alone() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        let clinic = with_alerts(fixture, true, &["a"]).await;
        let started = claim(&steps).await;
        assert_eq!(finish(&steps, &started[0], GONE).await, Some(Ending::Done));
        assert_eq!(dead_letters(fixture).await, [""; 0], "the operator's delivery goes on");
        finish(&steps, &started[1], ACCEPTED).await;
        assert_eq!(
            dead_letters(fixture).await,
            ["waiting | gone | the company's webhook was not taken in 1 attempts, lastly gone | 1"]
        );
        assert_eq!(outcomes(fixture).await, ["dead_lettered | - | 1"]);
        fixture.conserves().await;

        let all = Filter { limit: 10, processor: Some(PROCESSOR.name), ..Filter::default() };
        dead_letters::replay(fixture.db(), &all, "ana", Run::Real).await.unwrap();
        let records = fixture.publish(Topic::Alerts).await;
        fixture.consume(&handler(true), &records).await.unwrap();
        let again = claim(&steps).await;
        assert_eq!(again.len(), 1);
        let call = &again[0].job;
        assert_eq!((call.company, call.endpoint, call.of_round), (clinic, Endpoint::Company, 1));
        assert_eq!(call.body, started[0].job.body, "the same bytes under the same id");
        finish(&steps, &again[0], ACCEPTED).await;
        assert_eq!(
            rows(fixture).await,
            ["company | ended | delivered | - | 2", "operator | ended | delivered | - | 1"]
        );
        assert_eq!(outcomes(fixture).await, ["done | - | 1"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_holder_is_gone_is_made_again_and_its_late_result_is_void() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        with_alerts(fixture, false, &["a"]).await;
        let slow = claim(&steps).await.remove(0);
        assert_eq!(steps.reclaim().await.unwrap(), 1);
        assert_eq!(attempts(fixture).await, ["company | 1 | 1 | UNKNOWN | - | lease_ran_out"]);
        assert_eq!(finish(&steps, &slow, ACCEPTED).await, None, "while it waits");
        let second = claim(&steps).await.remove(0);
        assert_eq!((second.job.event, &second.job.body), (slow.job.event, &slow.job.body));
        assert_eq!(finish(&steps, &slow, GONE).await, None, "while it is under way again");
        finish(&steps, &second, ACCEPTED).await;
        assert_eq!(finish(&steps, &slow, GONE).await, None, "and when it is over");
        assert_eq!(outcomes(fixture).await, ["done | - | 1"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_starts_again_reclaims_its_own_calls_and_no_others() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        with_alerts(fixture, true, &["a"]).await;
        assert_eq!(claim(&steps).await.len(), 2);
        assert_eq!(steps_of(fixture, "two").reclaim().await.unwrap(), 0);
        assert_eq!(rows(fixture).await, ["company | calling | - | - | 1", "operator | calling | - | - | 1"]);
        assert_eq!(steps.reclaim().await.unwrap(), 2);
        assert_eq!(rows(fixture).await, ["company | waiting | - | - | 1", "operator | waiting | - | - | 1"]);
    })
    .await;
}

#[tokio::test]
async fn companies_take_turns() {
    with_fixture(async |fixture| {
        let steps = steps(fixture);
        with_alerts(fixture, false, &["a", "b", "c", "d"]).await;
        let salon = fixture.company("salao.test").await;
        add_webhook(fixture, salon, "https://salao.example/").await;
        fixture.consume(&handler(false), &[record(fixture, &crossing(salon, "e"))]).await.unwrap();
        let two = steps.claim(2).await.unwrap();
        assert!(two.iter().any(|it| it.job.company == salon), "the second does not wait for all of the first's");
    })
    .await;
}

#[tokio::test]
async fn a_call_uses_the_receivers_that_are_configured_when_it_is_made() {
    with_fixture(async |fixture| {
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        for name in ["clinica", "operator"] {
            sandbox.receive(name, &SandboxReceiver { secrets: vec![SECRET.into()] }).unwrap();
        }
        with_alerts(fixture, true, &["a"]).await;
        // The URL changes after the event was read.
        let url = format!("{}/webhooks/clinica", sandbox.base_url());
        fixture.run(&format!("update company_webhooks set url = '{url}'")).await;
        let config = operator_config(&format!("{}/webhooks/operator", sandbox.base_url()));
        let steps = steps_with(fixture, &config);
        steps.run(10).await.unwrap();
        for name in ["clinica", "operator"] {
            let seen = sandbox.log(&Seen::taken().number(name));
            assert_eq!(seen.len(), 1, "{name}");
            assert_eq!(seen[0].message_key, Some(id("a").to_string()));
        }
        assert_eq!(outcomes(fixture).await, ["done | - | 1"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_rotated_out_signs_too_until_its_time_is_over() {
    with_fixture(async |fixture| {
        const OLD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        sandbox.receive("clinica", &SandboxReceiver { secrets: vec![OLD.into()] }).unwrap();
        let clinic = with_alerts(fixture, false, &["a"]).await;
        let place = SecretColumn { table: "company_webhooks", column: "previous_secret_sealed", company: clinic };
        let sealed = sealer().seal(place, OLD.as_bytes()).unwrap();
        let url = format!("{}/webhooks/clinica", sandbox.base_url());
        let sql = "update company_webhooks set url = $1, previous_secret_sealed = $2,
                     previous_secret_until = now() + interval '1 hour'";
        fixture.root.execute(sql, &[&url, &sealed]).await.unwrap();
        let config = Config { allow_private: true, ..Config::default() };
        let steps = steps_with(fixture, &config);
        steps.run(10).await.unwrap();
        assert_eq!(sandbox.count(&Seen::taken()), 1, "a receiver that still uses the old secret accepts it");

        fixture.run("update company_webhooks set previous_secret_until = now() - interval '1 second'").await;
        fixture.consume(&handler(false), &[record(fixture, &crossing(clinic, "b"))]).await.unwrap();
        steps.run(10).await.unwrap();
        assert_eq!(sandbox.count(&Seen::taken()), 1);
        assert_eq!(fixture.rows("select status from webhook_attempts where result <> 'DELIVERED'").await, ["401"]);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_called_ends_by_its_reason() {
    with_fixture(async |fixture| {
        let clinic = with_alerts(fixture, false, &["off"]).await;
        let steps = steps_with(fixture, &Config::default());
        fixture.run("update company_webhooks set enabled = false").await;
        steps.run(10).await.unwrap();
        assert_eq!(outcomes(fixture).await, ["ignored | no_webhook | 1"]);

        fixture.run("update company_webhooks set enabled = true, url = 'https://10.0.0.1/'").await;
        fixture.consume(&handler(false), &[record(fixture, &crossing(clinic, "private"))]).await.unwrap();
        steps.run(10).await.unwrap();
        assert_eq!(fixture.rows("select cause from dead_letters").await, ["forbidden_address"]);

        fixture.run("update company_webhooks set url = 'https://clinica.example/', secret_sealed = 'x'").await;
        fixture.consume(&handler(false), &[record(fixture, &crossing(clinic, "sealed"))]).await.unwrap();
        steps.run(10).await.unwrap();
        let again = "select state, cause from webhook_deliveries where attempts = 1 and state = 'waiting'";
        assert_eq!(fixture.rows(again).await, ["waiting | -"], "the fault is ours: it is tried again");
        assert_eq!(
            fixture.rows("select class from webhook_attempts order by started_at desc limit 1").await,
            ["sealed_secret"]
        );
        fixture.conserves().await;
    })
    .await;
}
