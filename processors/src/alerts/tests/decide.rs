//! The schedule and the bodies as tables, and invalid settings.

use platform::attempt::{self, AttemptResult, Next, Outcome, Repeat};

use super::*;
use crate::alerts::decide::{Endpoint, endpoints, event_outcome};

/// The documentation for receivers.
const EXPLAINED: &str = include_str!("../../../../docs/WEBHOOKS.md");

fn after(attempts: i32, verdict: &Verdict, schedule: &Schedule, jitter: f64) -> (AttemptResult, Next) {
    attempt::after(attempts, verdict, Repeat::Freely, schedule, jitter)
}

fn verdict_on(status: u16) -> Verdict {
    ReceiverResponse::of_status(status, None).verdict
}

fn busy_for(seconds: u64) -> Verdict {
    ReceiverResponse::of_status(503, Some(Duration::from_secs(seconds))).verdict
}

/// Plays verdicts from the first attempt on, one line per attempt, until it is over.
fn play(verdicts: impl IntoIterator<Item = Verdict>) -> Vec<String> {
    let schedule = Config::default().schedule();
    let mut lines = Vec::new();
    for (verdict, attempts) in verdicts.into_iter().zip(1..) {
        let (result, next) = after(attempts, &verdict, &schedule, 0.0);
        let (next, is_over) = match next {
            Next::Retry(wait) => (format!("again in {} s", wait.as_secs()), false),
            Next::End(outcome) => (outcome.name("delivered").to_owned(), true),
        };
        lines.push(format!("{attempts} {}, {next}", result.name("DELIVERED")));
        if is_over {
            break;
        }
    }
    lines
}

#[test]
fn seven_calls_and_no_more() {
    let busy = std::iter::repeat(verdict_on(500));
    assert_eq!(
        play(busy),
        [
            "1 FAILED_TEMPORARY, again in 5 s",
            "2 FAILED_TEMPORARY, again in 30 s",
            "3 FAILED_TEMPORARY, again in 120 s",
            "4 FAILED_TEMPORARY, again in 900 s",
            "5 FAILED_TEMPORARY, again in 3600 s",
            "6 FAILED_TEMPORARY, again in 21600 s",
            "7 FAILED_PERMANENT, failed_permanent",
        ]
    );
}

#[test]
fn calls_that_failed_at_the_same_time_are_not_retried_at_the_same_time() {
    let schedule = Config::default().schedule();
    let wait = |jitter| match after(1, &verdict_on(500), &schedule, jitter).1 {
        Next::Retry(wait) => wait,
        Next::End(outcome) => panic!("{outcome:?}"),
    };
    assert_eq!((wait(0.0), wait(1.0)), (Duration::from_secs(5), Duration::from_millis(5_500)));
}

#[test]
fn a_call_that_may_have_arrived_is_made_again_like_any_other() {
    let silent = std::iter::repeat(Verdict::unknown("timeout"));
    let lines = play(silent);
    assert_eq!(lines.len(), 7);
    assert_eq!((lines[0].as_str(), lines[6].as_str()), ("1 UNKNOWN, again in 5 s", "7 UNKNOWN, failed_permanent"));
}

#[test]
fn a_receiver_may_ask_for_a_longer_wait_within_reason_and_for_no_shorter_one() {
    let asked = [busy_for(1), busy_for(45), busy_for(31_536_000), busy_for(0)];
    assert_eq!(
        play(asked),
        [
            "1 FAILED_TEMPORARY, again in 5 s",
            "2 FAILED_TEMPORARY, again in 45 s",
            "3 FAILED_TEMPORARY, again in 21600 s",
            "4 FAILED_TEMPORARY, again in 900 s",
        ]
    );
}

#[test]
fn every_status_has_its_verdict() {
    let is_accepted = |status| {
        ReceiverResponse::of_status(status, None) == ReceiverResponse { verdict: Verdict::Done, status: Some(status) }
    };
    assert!([200, 201, 204, 299].into_iter().all(is_accepted));
    assert_eq!(ReceiverResponse::of_status(410, Some(Duration::from_secs(5))), GONE);
    assert_eq!(play([GONE.verdict]), ["1 FAILED_PERMANENT, failed_permanent"]);
    let class = |status| verdict_on(status).class();
    for (status, expected) in [
        (301, "redirected"),
        (308, "redirected"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
    ] {
        assert_eq!(class(status), Some(expected), "{status}");
        assert!(matches!(verdict_on(status), Verdict::Temporary { .. }), "{status}");
    }
}

#[test]
fn an_outcome_is_known_by_the_name_it_is_stored_under() {
    for outcome in [Outcome::Done, Outcome::FailedPermanent, Outcome::Withdrawn] {
        assert_eq!(Outcome::named(outcome.name("delivered"), "delivered"), outcome);
    }
}

#[test]
fn an_event_ends_with_its_last_delivery_and_is_dead_lettered_if_one_failed() {
    use Outcome::{Done as Delivered, FailedPermanent, Withdrawn};
    let no_webhook = EventOutcome::Ignored(IgnoreReason::NoWebhook);
    assert_eq!(event_outcome(&[Some(Delivered), None]), None);
    assert_eq!(event_outcome(&[Some(FailedPermanent), None]), None);
    assert_eq!(event_outcome(&[Some(Delivered)]), Some(EventOutcome::Done));
    assert_eq!(event_outcome(&[Some(Delivered), Some(Delivered)]), Some(EventOutcome::Done));
    assert_eq!(event_outcome(&[Some(Withdrawn), Some(Delivered)]), Some(EventOutcome::Done));
    assert_eq!(event_outcome(&[Some(Delivered), Some(FailedPermanent)]), Some(EventOutcome::DeadLettered));
    assert_eq!(event_outcome(&[Some(FailedPermanent), Some(Withdrawn)]), Some(EventOutcome::DeadLettered));
    assert_eq!(event_outcome(&[Some(Withdrawn), Some(Withdrawn)]), Some(no_webhook));
    assert_eq!(
        after(1, &Verdict::Withdrawn, &Schedule::of_seconds(&[]), 0.0),
        (AttemptResult::Withdrawn, Next::End(Withdrawn))
    );
}

#[test]
fn an_event_goes_to_every_endpoint_that_has_a_receiver() {
    assert_eq!(endpoints(true, true), [Endpoint::Company, Endpoint::Operator]);
    assert_eq!(endpoints(true, false), [Endpoint::Company]);
    assert_eq!(endpoints(false, true), [Endpoint::Operator]);
    assert_eq!(endpoints(false, false), []);
}

#[test]
fn a_body_says_what_happened_when_and_to_which_company() {
    assert_eq!(
        message::body(&crossing(CompanyId(7), "a"), "clinica.test"),
        r#"{"data":{"arming":1,"company":"clinica.test","company_id":7,"feature":"agents","limit":10,"period_end":null,"period_start":"2026-03-01T03:00:00Z","threshold_epoch":1,"threshold_percent":80,"used":8},"timestamp":"2026-03-15T12:00:00Z","type":"usage.threshold_reached"}"#
    );
    assert_eq!(
        message::body(&status_change(CompanyId(7)), "clinica.test"),
        r#"{"data":{"company":"clinica.test","company_id":7,"from":"active","subscription_event_id":"00000000-0000-0000-0000-000000000008","subscription_id":"00000000-0000-0000-0000-000000000007","to":"past_due"},"timestamp":"2026-03-15T12:00:00Z","type":"subscription.status_changed"}"#
    );
}

#[test]
fn every_kind_on_the_topic_has_a_name_of_its_own_and_is_explained() {
    let names: std::collections::BTreeSet<&str> = Kind::ALERTS.iter().map(|it| message::name(*it)).collect();
    assert_eq!(names.len(), Kind::ALERTS.len());
    for name in names {
        assert!(EXPLAINED.contains(&format!("| `{name}` |")), "docs/WEBHOOKS.md does not explain {name}");
    }
}

#[test]
fn invalid_settings_are_named() {
    let problem = |config: Config| config.validate().err().map(|it| it.to_string()).unwrap_or_default();
    let named = |config: Config, key: &str| assert!(problem(config).contains(&format!("`{key}`")), "{key}");
    assert_eq!(problem(Config::default()), "");
    assert_eq!(problem(operator_config("http://127.0.0.1:8090/webhooks/operator")), "");
    named(Config { retry_after_s: vec![-1.0], ..Config::default() }, "alerts.retry_after_s");
    named(Config { retry_after_s: vec![1.0; 21], ..Config::default() }, "alerts.retry_after_s");
    named(Config { time_scale: 11.0, ..Config::default() }, "alerts.time_scale");
    named(Config { jitter: 1.1, ..Config::default() }, "alerts.jitter");
    named(Config { timeout_ms: 0, ..Config::default() }, "alerts.timeout_ms");
    named(Config { allow_private: false, ..operator_config("http://127.0.0.1/") }, "alerts.operator_webhook_url");
    named(Config { allow_private: false, ..operator_config("https://10.0.0.1/") }, "alerts.operator_webhook_url");
    named(operator_config("clinica.example"), "alerts.operator_webhook_url");
    let unsigned = Config { operator_webhook_secret: "".into(), ..operator_config("https://clinica.example/") };
    assert!(unsigned.validate_to_run().unwrap_err().to_string().contains("`alerts.operator_webhook_secret`"));
    assert_eq!(problem(unsigned), "", "a process that does not run alerts needs no secret");
    let odd =
        Config { operator_webhook_secret_previous: "segredo".into(), ..operator_config("https://clinica.example/") };
    assert!(!problem(odd.clone()).contains("segredo"));
    named(odd, "alerts.operator_webhook_secret_previous");
}
