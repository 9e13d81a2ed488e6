//! Every form of a response, as fixtures; and the client against the sandbox's faults.

use std::time::Duration;

use sandbox::{Fault, FaultRule, Filter, Sandbox, Target};

use super::answer::{Completeness, read_answer};
use super::*;
use crate::reply::prompt::Role;

const ENOUGH: Duration = Duration::from_secs(30);

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fixtures/gemini/", $name, ".json")).as_slice()
    };
}

fn read(status: u16, body: &[u8]) -> Result<ModelAnswer, ModelError> {
    read_answer("gemini-2.5-flash", status, None, body)
}

fn spent(input: i64, output: i64, cached: i64) -> Option<Tokens> {
    Some(Tokens { input, output, cached })
}

#[test]
fn an_answer_is_the_text_of_all_its_parts() {
    let answer = read(200, fixture!("200_success")).unwrap();
    assert_eq!(answer.text, "Olá, Maria! Temos horário amanhã às 14h. Posso reservar?");
    assert_eq!((answer.tokens, answer.completeness), (spent(207, 22, 128), Completeness::Whole));
    assert_eq!(answer.model, "gemini-2.5-flash-002");
}

#[test]
fn thoughts_are_billed_and_not_sent() {
    let answer = read(200, fixture!("200_thoughts")).unwrap();
    assert_eq!((answer.text.as_str(), answer.tokens), ("Claro! Para qual dia?", spent(40, 97, 0)));
    let failure = read(200, fixture!("200_only_thoughts")).unwrap_err();
    assert_eq!((failure.class(), failure.tokens(), failure.retry()), ("empty", spent(40, 91, 0), RetryAdvice::Backoff));
}

#[test]
fn an_answer_without_usage_is_an_answer() {
    assert_eq!(read(200, fixture!("200_no_usage")).unwrap().tokens, None);
    assert_eq!(read(200, fixture!("200_partial_usage")).unwrap().tokens, spent(31, 6, 0), "the rest of the total");
    assert_eq!(read(200, fixture!("200_no_usage")).unwrap().model, "gemini-2.5-flash");
}

#[test]
fn a_text_that_ran_out_of_tokens_is_cut_at_its_last_sentence() {
    let answer = read(200, fixture!("200_max_tokens_with_text")).unwrap();
    assert_eq!(answer.text, "Temos limpeza por R$ 150.00 e clareamento. Atendemos de segunda a sexta!");
    assert_eq!(answer.completeness, Completeness::Truncated);
    let cut = |text: &str| {
        let parts = serde_json::json!([{"text": text}]);
        let body = serde_json::json!({"candidates": [{"content": {"parts": parts}, "finishReason": "MAX_TOKENS"}]});
        read(200, body.to_string().as_bytes()).unwrap().text
    };
    assert_eq!(cut("A limpeza custa R$ 150.00 e dura"), "A limpeza custa R$ 150.00 e dura");
    assert_eq!(cut("Não sei… mas v"), "Não sei…");
    assert_eq!(cut("Tudo certo?"), "Tudo certo?");
}

#[test]
fn blocked_answers_are_not_sent_and_their_tokens_are_billed() {
    type Case = (&'static [u8], &'static str, Option<Tokens>);
    let cases: [Case; 5] = [
        (fixture!("200_prompt_blocked"), "PROHIBITED_CONTENT", spent(638, 0, 0)),
        (fixture!("200_prompt_blocked_message_only"), "unknown", None),
        (fixture!("200_prompt_blocked_unknown"), "unknown", None),
        (fixture!("200_safety_with_text"), "SAFETY", spent(52, 9, 0)),
        (fixture!("200_unknown_finish"), "unknown", None),
    ];
    for (body, expected, bill) in cases {
        let failure = read(200, body).unwrap_err();
        assert_eq!(
            (failure.class(), failure.retry(), failure.tokens()),
            ("blocked", RetryAdvice::No, bill),
            "{expected}"
        );
        assert!(matches!(failure, ModelError::Blocked { reason, .. } if reason == expected), "{failure}");
    }
}

#[test]
fn answers_without_text_are_empty() {
    let only_thoughts = read(200, fixture!("200_max_tokens_no_parts")).unwrap_err();
    assert_eq!((only_thoughts.class(), only_thoughts.retry()), ("empty", RetryAdvice::No));
    assert_eq!(only_thoughts.tokens(), spent(120, 512, 0));
    let no_candidates = read(200, fixture!("200_no_candidates")).unwrap_err();
    assert_eq!((no_candidates.class(), no_candidates.tokens()), ("empty", spent(12, 0, 0)));
    let nothing = read(200, fixture!("200_empty_parts")).unwrap_err();
    assert_eq!((nothing.class(), nothing.tokens()), ("empty", None));
    assert_eq!(read(200, b"{}").unwrap_err().class(), "empty");
    let malformed =
        br#"{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#;
    assert_eq!(read(200, malformed).unwrap_err().class(), "empty");
}

#[test]
fn errors_are_classified_by_what_a_repeat_would_do() {
    let after = |ms| RetryAdvice::After(Duration::from_micros(ms));
    type Case = (u16, &'static [u8], &'static str, RetryAdvice);
    let cases: [Case; 13] = [
        (429, fixture!("429_per_minute"), "rate_limited", RetryAdvice::After(Duration::from_nanos(3_957_525_076))),
        (429, fixture!("429_per_day"), "quota_day", RetryAdvice::No),
        (429, fixture!("429_in_array_message_only"), "rate_limited", after(62_500_000)),
        (429, b"too many", "rate_limited", RetryAdvice::Backoff),
        (503, fixture!("503_overloaded"), "unavailable", RetryAdvice::Backoff),
        (408, b"", "unavailable", RetryAdvice::Backoff),
        (400, fixture!("400_key_invalid"), "key_refused", RetryAdvice::No),
        (400, fixture!("400_invalid_argument"), "request_refused", RetryAdvice::No),
        (403, fixture!("403_denied"), "key_refused", RetryAdvice::No),
        (404, fixture!("404_model"), "model_unknown", RetryAdvice::No),
        (302, b"", "request_refused", RetryAdvice::No),
        (200, b"<html>", "garbage", RetryAdvice::Backoff),
        (200, fixture!("503_overloaded"), "unavailable", RetryAdvice::Backoff),
    ];
    for (status, body, class, retry) in cases {
        let failure = read(status, body).unwrap_err();
        assert_eq!((failure.class(), failure.retry()), (class, retry), "{status} {}", String::from_utf8_lossy(body));
    }
}

#[test]
fn the_wait_is_read_from_the_header_or_the_message() {
    let waits = |retry_after: Option<u64>, message: &str| {
        let retry_after = retry_after.map(Duration::from_secs);
        let body = serde_json::json!({"error": {"code": 429, "message": message}}).to_string();
        read_answer("m", 429, retry_after, body.as_bytes()).unwrap_err().retry()
    };
    let after = |ms| RetryAdvice::After(Duration::from_millis(ms));
    assert_eq!(waits(None, "Please retry in 36.5s."), after(36_500));
    assert_eq!(waits(None, "PLEASE RETRY IN 5 s"), after(5_000));
    assert_eq!(waits(None, "retry in 850ms."), after(850));
    assert_eq!(waits(Some(7), "later"), after(7_000));
    assert_eq!(waits(Some(7), "retry in 5s"), after(5_000), "the body's wait is for this request");
    assert_eq!(waits(None, "retry in a while, ção"), RetryAdvice::Backoff);
    assert_eq!(waits(None, "retry in 99999999999999999999s"), RetryAdvice::Backoff);
    assert_eq!(waits(None, "retry in "), RetryAdvice::Backoff);
    assert_eq!(waits(Some(31_536_000), ""), after(86_400_000), "a wait is at most a day");
}

#[test]
fn the_reader_accepts_any_bytes() {
    for body in [&b"null"[..], b"[]", b"[[]]", b"7", b"\"x\"", b"{\"candidates\":7}", b"{\"error\":null}", b"\xff\xfe"]
    {
        assert!(read(200, body).is_err());
        assert!(read(500, body).is_err());
    }
    let odd = br#"{"candidates":[{"content":{"parts":[{"text":7},{"inlineData":{}},{"text":"Oi."}]}}],
        "usageMetadata":{"promptTokenCount":"12","candidatesTokenCount":-3}}"#;
    let answer = read(200, odd).unwrap();
    assert_eq!((answer.text.as_str(), answer.tokens), ("Oi.", spent(12, 0, 0)));
}

#[test]
fn the_key_is_in_no_debug_output_and_invalid_settings_are_refused() {
    let config = Config { api_key: "chave-secreta".into(), ..Config::default() };
    let client = Client::new(&config).unwrap();
    assert!(!format!("{client:?} {config:?} {}", serde_json::to_string(&config).unwrap()).contains("chave-secreta"));
    assert_eq!(
        client.url.as_str(),
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
    );
    assert!(config.validate().is_ok());
    let refused = |config: Config| config.validate().unwrap_err().to_string();
    let named = |name: &str, config| assert!(refused(config).contains(name), "{name}");
    named("reply.model.api_key", Config::default());
    named("reply.model.api_key", Config { api_key: "a\nb".into(), ..config.clone() });
    for base_url in ["", "x", "ftp://x", "http://x/?y"] {
        named("reply.model.base_url", Config { base_url: base_url.into(), ..config.clone() });
    }
    named("reply.model.model", Config { model: "../x".into(), ..config.clone() });
    named("reply.model.attempts", Config { attempts: 0, ..config.clone() });
    named("reply.model.temperature", Config { temperature: f32::NAN, ..config.clone() });
    assert!(
        Client::new(&Config { base_url: "x".into(), ..config }).is_err(),
        "settings that were not validated cause no panic"
    );
}

async fn sandbox_and_config() -> (Sandbox, Config) {
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let config = Config {
        base_url: sandbox.base_url(),
        api_key: "chave-de-teste".into(),
        backoff_ms: 1,
        backoff_max_ms: 2,
        ..Config::default()
    };
    (sandbox, config)
}

async fn generate(config: &Config, within: Duration) -> Generated {
    let prompt = Prompt {
        system: "Você é a secretária da Clínica Sorriso.".into(),
        messages: vec![(Role::User, "oi".into()), (Role::User, "quero marcar".into())],
    };
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    Client::new(config).unwrap().generate(&prompt, within, Some(trace)).await
}

type Generated = (Result<ModelAnswer, ModelError>, Vec<CallReport>);

fn classes((_, calls): &Generated) -> Vec<&'static str> {
    calls.iter().map(|call| call.failure.unwrap_or("ok")).collect()
}

#[tokio::test]
async fn a_prompt_is_answered_and_the_call_reported() {
    let (sandbox, config) = sandbox_and_config().await;
    let (outcome, calls) = generate(&config, ENOUGH).await;
    let answer = outcome.unwrap();
    assert!(!answer.text.is_empty());
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].failure, calls[0].tokens, &calls[0].model), (None, answer.tokens, &answer.model));
    assert!(answer.tokens.is_some_and(|tokens| tokens.input > 0 && tokens.output > 0));
    let log = sandbox.log(&Filter::of(Target::Model));
    assert_eq!(log[0].token.as_deref(), Some("chave-de-teste"));
    assert_eq!(log[0].trace.as_deref(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert_eq!(log[0].text.as_deref(), Some("oi\nquero marcar"));
}

#[tokio::test]
async fn temporary_failures_are_retried_and_every_call_is_reported() {
    let (sandbox, config) = sandbox_and_config().await;
    let overloaded = Fault::Status { status: 503, body: serde_json::Value::Null, headers: Default::default() };
    let faults = [Fault::Gemini429 { retry_delay_s: 0.01, per_day: false }, overloaded, Fault::Garbage];
    for fault in faults.into_iter().chain([Fault::Truncated, Fault::Drop]) {
        sandbox.fault(FaultRule::new(Target::Model, fault)).unwrap();
    }
    let generation = generate(&Config { attempts: 6, ..config }, ENOUGH).await;
    assert_eq!(classes(&generation), ["rate_limited", "unavailable", "garbage", "broken", "broken", "ok"]);
    assert!(generation.0.is_ok());
}

#[tokio::test]
async fn a_used_up_daily_quota_is_not_retried() {
    let (sandbox, config) = sandbox_and_config().await;
    let fault = Fault::Gemini429 { retry_delay_s: 0.01, per_day: true };
    sandbox.fault(FaultRule::new(Target::Model, fault)).unwrap();
    let generation = generate(&config, ENOUGH).await;
    assert_eq!(classes(&generation), ["quota_day"]);
    assert!(matches!(generation.0, Err(ModelError::QuotaDay)));
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_started() {
    let (sandbox, config) = sandbox_and_config().await;
    let fault = Fault::Gemini429 { retry_delay_s: 3_600.0, per_day: false };
    sandbox.fault(FaultRule::new(Target::Model, fault)).unwrap();
    let generation = tokio::time::timeout(ENOUGH, generate(&config, ENOUGH)).await.unwrap();
    assert_eq!(classes(&generation), ["rate_limited"]);
    let none = generate(&config, Duration::ZERO).await;
    assert!(none.1.is_empty() && matches!(none.0, Err(ModelError::NoTimeLeft)));
}

#[tokio::test]
async fn a_call_without_a_response_times_out_and_is_retried_up_to_the_attempts() {
    let (sandbox, config) = sandbox_and_config().await;
    sandbox.fault(FaultRule::new(Target::Model, Fault::Hang { ms: 60_000 }).times(9)).unwrap();
    let generation = generate(&Config { timeout_ms: 50, ..config.clone() }, ENOUGH).await;
    assert_eq!(classes(&generation), ["timeout"; 3]);
    let generation = generate(&config, Duration::from_millis(50)).await;
    assert_eq!(classes(&generation), ["timeout"], "the deadline limits a call too");
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let (sandbox, config) = sandbox_and_config().await;
    sandbox.stop().await.unwrap();
    let generation = generate(&config, ENOUGH).await;
    assert_eq!(classes(&generation), ["unreachable"; 3]);
}

#[tokio::test]
async fn a_response_beyond_the_size_limit_is_garbage() {
    let (sandbox, config) = sandbox_and_config().await;
    let body = serde_json::json!({"candidates": [{"content": {"parts": [{"text": "a".repeat(MAX_BODY_BYTES)}]}}]});
    sandbox.fault(FaultRule::new(Target::Model, Fault::Answer { body })).unwrap();
    let generation = generate(&Config { attempts: 1, ..config }, ENOUGH).await;
    assert_eq!(classes(&generation), ["garbage"]);
}
