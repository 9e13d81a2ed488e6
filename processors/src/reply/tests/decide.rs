//! Decisions on messages and answers, and invalid settings.

use std::time::Duration;

use domain::{Fact, IgnoreReason};
use platform::egress::TransportError;
use platform::queue::Health;

use super::text;
use crate::reply::Config;
use crate::reply::decide::{CompanyStatus, MessageAction, TurnEnd, TurnOutcome, on_answer, on_message, on_suspension};
use crate::reply::gemini::{CallReport, Completeness, ModelAnswer, ModelError, Tokens};

const ACTIVE: Option<CompanyStatus> = Some(CompanyStatus::Active);
const SUSPENDED: Option<CompanyStatus> = Some(CompanyStatus::Suspended);

#[test]
fn a_message_with_a_reason_to_ignore_it_is_ignored_for_that_reason() {
    for reason in [
        IgnoreReason::Group,
        IgnoreReason::Broadcast,
        IgnoreReason::Newsletter,
        IgnoreReason::OwnEcho,
        IgnoreReason::Edited,
        IgnoreReason::Revoked,
        IgnoreReason::Stub,
        IgnoreReason::Reaction,
        IgnoreReason::UnsupportedKind,
    ] {
        let message = domain::InboundMessage { ignore: Some(reason), ..text(super::MARIA, "oi") };
        for company in [ACTIVE, SUSPENDED, None] {
            assert_eq!(on_message(&message, company), MessageAction::Ignore(reason), "whatever the company's state");
        }
    }
}

#[test]
fn messages_of_a_suspended_company_are_ignored() {
    let message = text(super::MARIA, "oi");
    assert_eq!(on_message(&message, SUSPENDED), MessageAction::Ignore(IgnoreReason::CompanyInactive));
    assert_eq!(on_message(&message, ACTIVE), MessageAction::Collect);
    assert_eq!(on_message(&message, None), MessageAction::Collect, "the tables refuse an unknown company");
    let ending = on_suspension();
    assert_eq!((ending.outcome.as_str(), ending.outcome.reason()), ("ignored", Some("company_inactive")));
    assert_eq!((ending.text, ending.tokens), (None, vec![]));
}

fn call(failure: Option<&'static str>, tokens: Option<(i64, i64, i64)>) -> CallReport {
    let tokens = tokens.map(|(input, output, cached)| Tokens { input, output, cached });
    CallReport { model: "gemini-test".into(), latency: Duration::ZERO, failure, tokens }
}

fn used(input: i64, output: i64, cached: i64) -> Fact {
    Fact::ModelTokens { model: "gemini-test".into(), input, output, cached }
}

#[test]
fn an_answer_is_sent_as_the_model_gave_it() {
    let answer = ModelAnswer {
        text: "Temos horário às 14h.".into(),
        tokens: None,
        model: "gemini-test".into(),
        completeness: Completeness::Whole,
    };
    let ending = on_answer(Ok(answer), &[call(None, Some((100, 10, 4)))], "Já voltamos.");
    let text = Some("Temos horário às 14h.".to_owned());
    let (model, health) = (Some("gemini-test".to_owned()), Health::Healthy);
    assert_eq!(ending, TurnEnd { outcome: TurnOutcome::Replied, text, tokens: vec![used(100, 10, 4)], model, health });
    assert_eq!((ending.outcome.as_str(), ending.outcome.reason()), ("replied", None));
}

#[test]
fn an_answer_longer_than_a_message_is_cut_after_its_4096th_character() {
    let sent_text = |text: String| {
        let answer = ModelAnswer { text, tokens: None, model: "gemini-test".into(), completeness: Completeness::Whole };
        on_answer(Ok(answer), &[], "Já voltamos.").text.unwrap()
    };
    // Characters of one, two and four bytes, so that a limit in bytes would cut elsewhere.
    let long = |count: usize| "aé🦷".chars().cycle().take(count).collect::<String>();
    assert_eq!(sent_text(long(4_096)), long(4_096));
    assert_eq!(sent_text(long(4_097)), long(4_096), "and nothing is appended");
    assert_eq!(sent_text(long(100_000)), long(4_096));
    assert_eq!(sent_text(long(4_096).replace('a', "\0a\0")), long(4_096), "what cannot be sent does not count");
}

#[test]
fn a_model_error_ends_with_the_fallback_and_its_class() {
    let ends = |error: ModelError| {
        let ending = on_answer(Err(error), &[], "Já voltamos.");
        assert_eq!(ending.text.as_deref(), Some("Já voltamos."));
        assert_eq!(ending.outcome.as_str(), "fallback");
        ending.outcome.reason().unwrap()
    };
    assert_eq!(ends(ModelError::Transport(TransportError::Timeout)), "timeout");
    assert_eq!(ends(ModelError::QuotaDay), "quota_day");
    assert_eq!(ends(ModelError::Blocked { reason: "SAFETY", tokens: None }), "blocked");
    assert_eq!(ends(ModelError::Unavailable { status: 503, after: None }), "unavailable");
}

#[test]
fn every_call_with_reported_tokens_is_metered_and_no_other() {
    let calls = [
        call(Some("unavailable"), None),
        call(Some("empty"), Some((207, 91, 0))),
        call(Some("timeout"), None),
        call(None, Some((207, 22, 128))),
    ];
    let ending = on_answer(Err(ModelError::Transport(TransportError::Timeout)), &calls, "Já voltamos.");
    assert_eq!(ending.tokens, [used(207, 91, 0), used(207, 22, 128)]);
}

#[test]
fn invalid_settings_are_named() {
    let problem = |config: Config| config.validate().unwrap_err().to_string();
    Config::default().validate().unwrap();
    assert_eq!(
        problem(Config { quiet_ms: 2_000, quiet_cap_ms: 1_999, ..Config::default() }),
        "setting `reply.quiet_cap_ms`: must not be below reply.quiet_ms"
    );
    assert_eq!(
        problem(Config { fallback_text: " \n".into(), ..Config::default() }),
        "setting `reply.fallback_text`: must say something"
    );
    for memory_messages in [0, 101] {
        assert_eq!(
            problem(Config { memory_messages, ..Config::default() }),
            "setting `reply.memory_messages`: must be between 1 and 100"
        );
    }
}
