//! The schedule as a table, and invalid settings.

use domain::Purpose;

use super::*;
use crate::delivery::decide::{Round, after};

fn busy_for(seconds: u64) -> Verdict {
    Verdict::Temporary { class: "busy", retry_after: Some(Duration::from_secs(seconds)) }
}

/// Plays verdicts from the first attempt on, one line per attempt, until it is over.
fn play(verdicts: impl IntoIterator<Item = Verdict>) -> Vec<String> {
    let schedule = Config::default().schedule();
    let mut unknowns = 0;
    let mut lines = Vec::new();
    for (verdict, attempts) in verdicts.into_iter().zip(1..) {
        let (result, next) = after(Round { attempts, unknowns, purpose: Purpose::Reply }, &verdict, &schedule, 0.0);
        unknowns += i32::from(result == AttemptResult::Unknown);
        let next = match next {
            Next::End(Outcome::Done) => "over".to_owned(),
            Next::Retry(wait) => format!("again in {} s", wait.as_secs()),
            Next::End(_) => "dead letter".to_owned(),
        };
        lines.push(format!("{attempts} {}, {next}", result.name("SENT")));
        if !next.starts_with("again") {
            break;
        }
    }
    lines
}

#[test]
fn a_message_that_is_accepted_is_not_sent_again() {
    assert_eq!(play([Verdict::Done]), ["1 SENT, over"]);
    assert_eq!(play([BUSY, Verdict::Done]), ["1 FAILED_TEMPORARY, again in 5 s", "2 SENT, over"]);
}

#[test]
fn there_is_one_attempt_and_five_retries_and_then_it_has_failed_for_good() {
    let schedule = [
        "1 FAILED_TEMPORARY, again in 5 s",
        "2 FAILED_TEMPORARY, again in 15 s",
        "3 FAILED_TEMPORARY, again in 45 s",
        "4 FAILED_TEMPORARY, again in 90 s",
        "5 FAILED_TEMPORARY, again in 90 s",
        "6 FAILED_PERMANENT, dead letter",
    ];
    assert_eq!(play([BUSY; 9]), schedule);
}

#[test]
fn the_last_retry_may_still_succeed() {
    let lines = play([BUSY, BUSY, BUSY, BUSY, BUSY, Verdict::Done]);
    assert_eq!(lines.last().unwrap(), "6 SENT, over");
}

#[test]
fn a_longer_wait_that_the_provider_asks_for_is_kept_and_a_shorter_one_is_not() {
    let lines = play([busy_for(600), busy_for(3), busy_for(45), busy_for(91)]);
    let expected = [
        "1 FAILED_TEMPORARY, again in 600 s",
        "2 FAILED_TEMPORARY, again in 15 s",
        "3 FAILED_TEMPORARY, again in 45 s",
        "4 FAILED_TEMPORARY, again in 91 s",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_permanent_refusal_is_not_retried() {
    assert_eq!(play([FORBIDDEN]), ["1 FAILED_PERMANENT, dead letter"]);
    assert_eq!(play([BUSY, FORBIDDEN]), ["1 FAILED_TEMPORARY, again in 5 s", "2 FAILED_PERMANENT, dead letter"]);
    assert_eq!(play([SILENT, FORBIDDEN]), ["1 UNKNOWN, again in 5 s", "2 FAILED_PERMANENT, dead letter"]);
}

#[test]
fn a_message_that_may_have_arrived_is_sent_once_more_at_most() {
    assert_eq!(play([SILENT, Verdict::Done]), ["1 UNKNOWN, again in 5 s", "2 SENT, over"]);
    assert_eq!(play([SILENT, SILENT]), ["1 UNKNOWN, again in 5 s", "2 UNKNOWN, dead letter"]);
    assert_eq!(play([SILENT, BUSY]), ["1 UNKNOWN, again in 5 s", "2 FAILED_PERMANENT, dead letter"]);
    assert_eq!(
        play([BUSY, BUSY, SILENT, BUSY]),
        [
            "1 FAILED_TEMPORARY, again in 5 s",
            "2 FAILED_TEMPORARY, again in 15 s",
            "3 UNKNOWN, again in 45 s",
            "4 FAILED_PERMANENT, dead letter",
        ]
    );
}

#[test]
fn a_last_attempt_with_an_unknown_result_is_unknown_and_a_dead_letter() {
    assert_eq!(play([BUSY, BUSY, BUSY, BUSY, BUSY, SILENT]).last().unwrap(), "6 UNKNOWN, dead letter");
}

#[test]
fn without_waits_there_is_one_attempt() {
    let judged = |attempts, verdict, waits: &[f64]| {
        let round = Round { attempts, unknowns: 0, purpose: Purpose::Reply };
        after(round, &verdict, &Schedule::of_seconds(waits), 0.0)
    };
    let failed = Next::End(Outcome::FailedPermanent);
    assert_eq!(judged(1, BUSY, &[]), (AttemptResult::FailedPermanent, failed));
    assert_eq!(judged(1, SILENT, &[]), (AttemptResult::Unknown, failed));
    assert_eq!(judged(0, BUSY, &LATER).1, failed, "an attempt that was never counted");
}

#[test]
fn the_waits_are_the_settings_times_the_scale() {
    let seconds = |config: Config, jitter| {
        let wait = |attempts| config.schedule().wait_after(attempts, None, jitter).map(|it| it.as_secs_f64());
        (1..).map_while(wait).collect::<Vec<_>>()
    };
    assert_eq!(seconds(Config::default(), 0.9), [5.0, 15.0, 45.0, 90.0, 90.0], "there is no jitter by default");
    assert_eq!(seconds(Config { time_scale: 0.1, ..Config::default() }, 0.0), [0.5, 1.5, 4.5, 9.0, 9.0]);
    assert_eq!(seconds(Config { jitter: 0.5, ..Config::default() }, 1.0), [7.5, 22.5, 67.5, 135.0, 135.0]);
}

#[test]
fn invalid_settings_are_named() {
    let problem = |config: Config| config.validate().unwrap_err().to_string();
    Config::default().validate().unwrap();
    let waits = "setting `delivery.retry_after_s`: at most 20 waits, each between 0 and 86400 seconds";
    for retry_after_s in [vec![1.0; 21], vec![-0.1], vec![86_401.0], vec![f64::NAN], vec![f64::INFINITY]] {
        assert_eq!(problem(Config { retry_after_s, ..Config::default() }), waits);
    }
    for time_scale in [-1.0, 10.5, f64::NAN] {
        let shown = problem(Config { time_scale, ..Config::default() });
        assert_eq!(shown, "setting `delivery.time_scale`: must be between 0 and 10");
    }
    for jitter in [-0.1, 1.1, f64::NAN] {
        let shown = problem(Config { jitter, ..Config::default() });
        assert_eq!(shown, "setting `delivery.jitter`: must be between 0 and 1");
    }
    for timeout_ms in [99, 120_001] {
        let shown = problem(Config { timeout_ms, ..Config::default() });
        assert_eq!(shown, "setting `delivery.timeout_ms`: must be between 100 and 120000");
    }
}
