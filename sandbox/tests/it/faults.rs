//! Each kind of fault, as a client sees it and as the log records it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sandbox::{Fault, FaultRule, Filter, SettingsChange, Target};
use serde_json::{Value, json};

use crate::{TestSandbox, json_of, question};

const ANA: &str = "5511999990001";
const SOON: Duration = Duration::from_secs(10);

/// The log's only entry: fault, performed, status.
fn logged(test: &TestSandbox) -> (Option<&'static str>, bool, Option<u16>) {
    let log = test.sandbox.log(&Filter::default());
    assert_eq!(log.len(), 1);
    (log[0].fault, log[0].performed, log[0].status)
}

#[tokio::test]
async fn latency_delays_the_answer_and_not_the_effect() {
    let test = TestSandbox::start().await;
    test.script(Target::Send, Fault::Latency { ms: 60_000 });
    let timed_out = test.send(ANA, "oi").timeout(Duration::from_millis(200)).send().await;
    assert!(timed_out.unwrap_err().is_timeout());
    assert_eq!(logged(&test), (Some("latency"), true, None));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the latency under test is real")]
async fn a_short_latency_still_answers() {
    let test = TestSandbox::start().await;
    test.script(Target::Model, Fault::Latency { ms: 50 });
    let started = Instant::now();
    assert_eq!(test.ask(&question("oi")).send().await.unwrap().status(), 200);
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(logged(&test), (Some("latency"), true, Some(200)));
}

#[tokio::test]
async fn a_status_answers_with_its_body_and_headers_and_does_nothing() {
    let test = TestSandbox::start().await;
    let headers = BTreeMap::from([("retry-after".to_owned(), "7".to_owned())]);
    test.script(Target::Send, Fault::Status { status: 503, body: json!({"error": "ERR_X"}), headers });
    let response = test.send(ANA, "oi").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(json_of(response).await, (503, json!({"error": "ERR_X"})));
    assert_eq!(logged(&test), (Some("status"), false, Some(503)));
}

#[tokio::test]
async fn a_status_with_a_string_answers_it_verbatim() {
    let test = TestSandbox::start().await;
    let fault = Fault::Status { status: 502, body: json!("<h1>Bad Gateway</h1>"), headers: BTreeMap::new() };
    test.script(Target::Model, fault);
    let response = test.ask(&question("oi")).send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.text().await.unwrap(), "<h1>Bad Gateway</h1>");
}

#[tokio::test]
async fn gemini_429_names_the_delay_and_the_quota() {
    let test = TestSandbox::start().await;
    test.script(Target::Model, Fault::Gemini429 { retry_delay_s: 3.5, per_day: false });
    test.script(Target::Model, Fault::Gemini429 { retry_delay_s: 36.0, per_day: true });
    let (status, body) = json_of(test.ask(&question("oi")).send().await.unwrap()).await;
    let details = &body["error"]["details"];
    assert_eq!((status, &body["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    assert_eq!(details[2]["retryDelay"], "3.5s");
    assert!(details[0]["violations"][0]["quotaId"].as_str().unwrap().contains("PerMinute"));
    let (_, body) = json_of(test.ask(&question("oi")).send().await.unwrap()).await;
    assert_eq!(body["error"]["details"][2]["retryDelay"], "36s");
    assert!(body["error"]["details"][0]["violations"][0]["quotaId"].as_str().unwrap().contains("PerDay"));
}

#[tokio::test]
async fn garbage_is_a_200_that_is_not_json() {
    let test = TestSandbox::start().await;
    test.script(Target::Send, Fault::Garbage);
    let response = test.send(ANA, "oi").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.json::<Value>().await.is_err());
    assert_eq!(logged(&test), (Some("garbage"), true, Some(200)));
}

#[tokio::test]
async fn a_truncated_answer_begins_and_breaks_off() {
    let test = TestSandbox::start().await;
    test.script(Target::Model, Fault::Truncated);
    let mut response = test.ask(&question("oi")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let promised = response.content_length().unwrap();
    let mut received = 0;
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken);
    assert_eq!(u64::try_from(received).unwrap(), promised / 2);
    assert_eq!(logged(&test), (Some("truncated"), true, Some(200)));
}

#[tokio::test]
async fn a_hang_gives_no_answer_and_has_no_effect() {
    let test = TestSandbox::start().await;
    test.script(Target::Send, Fault::Hang { ms: 60_000 });
    let error = test.send(ANA, "oi").timeout(Duration::from_millis(200)).send().await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(logged(&test), (Some("hang"), false, None));
}

#[tokio::test]
async fn a_hang_ends_in_a_closed_connection() {
    let test = TestSandbox::start().await;
    test.script(Target::Send, Fault::Hang { ms: 20 });
    let error = test.send(ANA, "oi").timeout(SOON).send().await.unwrap_err();
    assert!(!error.is_timeout() && error.is_request(), "{error:?}");
}

#[tokio::test]
async fn a_silent_success_is_performed_and_never_answered() {
    let test = TestSandbox::start().await;
    test.script(Target::Send, Fault::SilentSuccess);
    let error = test.send(ANA, "oi").timeout(SOON).send().await.unwrap_err();
    assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
    assert_eq!(logged(&test), (Some("silent_success"), true, None));
}

#[tokio::test]
async fn a_silent_success_does_not_perform_what_would_be_refused() {
    let test = TestSandbox::start().await;
    test.script(Target::Send, Fault::SilentSuccess);
    assert!(test.send("not a number", "oi").timeout(SOON).send().await.is_err());
    assert_eq!(logged(&test), (Some("silent_success"), false, None));
}

#[tokio::test]
async fn a_drop_is_neither_performed_nor_answered() {
    let test = TestSandbox::start().await;
    test.script(Target::Model, Fault::Drop);
    let error = test.ask(&question("oi")).timeout(SOON).send().await.unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
    assert_eq!(logged(&test), (Some("drop"), false, None));
}

#[tokio::test]
async fn a_dropped_login_issues_no_token() {
    let test = TestSandbox::start().await;
    test.script(Target::Login, Fault::Drop);
    assert!(test.login("segredo").timeout(SOON).send().await.is_err());
    assert_eq!(test.sandbox.log(&Filter::of(Target::Login))[0].token, None);
    assert_eq!(test.login("segredo").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_aborted_connection_carries_not_one_byte() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let test = TestSandbox::start().await;
    test.script(Target::Send, Fault::SilentSuccess);
    let address = test.sandbox.base_url();
    let mut socket = tokio::net::TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let body = format!(r#"{{"number":"{ANA}","body":"oi"}}"#);
    let head = "POST /api/messages/send HTTP/1.1\r\nhost: sandbox\r\nauthorization: Bearer a\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let ended = tokio::time::timeout(SOON, socket.read_to_end(&mut received)).await.unwrap();
    assert!(ended.is_ok() && received.is_empty(), "{ended:?} {received:?}");
}

#[tokio::test]
async fn a_scripted_answer_is_sent_unchanged() {
    let test = TestSandbox::start().await;
    let blocked =
        json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3}});
    test.script(Target::Model, Fault::Answer { body: blocked.clone() });
    assert_eq!(json_of(test.ask(&question("oi")).send().await.unwrap()).await, (200, blocked));
    assert_eq!(logged(&test), (Some("answer"), true, Some(200)));
}

#[tokio::test]
async fn a_rule_can_single_out_a_model_a_number_or_a_token() {
    let test = TestSandbox::start().await;
    let gone = || Fault::Status { status: 503, body: Value::Null, headers: BTreeMap::new() };
    test.sandbox.fault(FaultRule::new(Target::Model, gone()).model("gemini-2.5-pro")).unwrap();
    test.sandbox.fault(FaultRule::new(Target::Send, gone()).number("5511999990002").token("conexao-1")).unwrap();
    assert_eq!(test.ask(&question("oi")).send().await.unwrap().status(), 200);
    assert_eq!(test.ask_model("gemini-2.5-pro", &question("oi")).send().await.unwrap().status(), 503);
    assert_eq!(test.send(ANA, "oi").send().await.unwrap().status(), 200);
    assert_eq!(test.send("5511999990002", "oi").send().await.unwrap().status(), 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hanging_requests_do_not_delay_others() {
    let test = TestSandbox::start().await;
    test.sandbox.fault(FaultRule::new(Target::Send, Fault::Hang { ms: 60_000 }).text("espera").times(1000)).unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let request = test.send(ANA, "espera");
        waiting.spawn(request.send());
    }
    assert!(test.sandbox.seen(&Filter::default().text("espera"), 1000, Duration::from_secs(60)).await.is_some());
    assert_eq!(test.send(ANA, "oi").timeout(SOON).send().await.unwrap().status(), 200);
    test.sandbox.stop().await.unwrap();
    while let Some(ended) = waiting.join_next().await {
        assert!(ended.unwrap().is_err());
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's task needs no name")]
async fn a_stopped_sandbox_refuses_connections_and_frees_its_port() {
    let test = TestSandbox::start().await;
    let settings = SettingsChange { send_latency_ms: Some(60_000), ..SettingsChange::default() };
    test.sandbox.settings(settings);
    let waiting = tokio::spawn(test.send(ANA, "oi").send());
    assert!(test.sandbox.seen(&Filter::sent(), 1, SOON).await.is_some());
    let request = test.send(ANA, "oi").timeout(SOON);
    test.sandbox.stop().await.unwrap();
    assert!(waiting.await.unwrap().is_err());
    assert!(request.send().await.unwrap_err().is_connect());
}
