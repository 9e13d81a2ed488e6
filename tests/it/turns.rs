//! Turns: bursts, messages in the middle, and a model that fails.

use sandbox::{Fault, FaultRule, Filter, SettingsChange, Target};
use serde_json::json;

use crate::support::app::TestApp;

const ANA: &str = "5511999990001";

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_answered_once() {
    let Some(app) = TestApp::start_with(|settings| settings.reply.quiet_ms = 400).await else { return };
    let clinic = app.company("clinica.test").await;
    for (id, text) in [("A1", "oi"), ("A2", "queria marcar"), ("A3", "pode ser sexta?")] {
        app.accept(&clinic.text(ANA, id, text)).await;
    }
    app.settles().await;
    let asked = app.sandbox.log(&Filter::of(Target::Model));
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].text.as_deref(), Some("oi\nqueria marcar\npode ser sexta?"));
    assert_eq!(app.sent_to(ANA).len(), 1);
    assert_eq!(
        app.one("select concat(count(*), ' ', count(distinct turn_id)) from messages where direction = 'in'").await,
        "3 1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_the_middle_opens_the_next_turn_which_waits() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    app.sandbox.settings(SettingsChange { model_latency_ms: Some(600), ..SettingsChange::default() });
    app.accept(&clinic.text(ANA, "A1", "qual o preço?")).await;
    app.comes_to("select count(*)::text from turns where state = 'answering'", "1").await;
    app.accept(&clinic.text(ANA, "A2", "qual o horário de atendimento?")).await;
    app.comes_to("select string_agg(state, ' ' order by opened_at) from turns", "answering collecting").await;
    app.settles().await;
    assert_eq!(app.one("select string_agg(outcome, ' ') from turns").await, "replied replied");
    let sent = app.sent_to(ANA);
    assert!(sent[0].contains("150") && sent[1].contains("18h"), "in order, each its own: {sent:?}");
}

/// What a model does, the outcome of the turn, and how many calls that took.
async fn ends_as(app: &TestApp, number: &str, faults: Vec<FaultRule>) -> String {
    let clinic = app.add_company(&format!("c{number}.test"), api::companies::Auth::Token("bridge-token".into())).await;
    app.known(&clinic).await;
    let calls = || app.sandbox.count(&Filter::of(Target::Model));
    let before = calls();
    let text = format!("oi, meu protocolo é {number}");
    for fault in faults {
        app.sandbox.fault(fault.text(&text)).unwrap();
    }
    app.accept(&clinic.text(number, "A1", &text)).await;
    app.settles().await;
    let outcome = app
        .one(&format!("select concat_ws(' ', outcome, reason) from turns where company_id = {}", clinic.company_id))
        .await;
    assert_eq!(app.sent_to(number).len(), 1, "never silence");
    format!("{outcome}, {} calls", calls() - before)
}

fn model(fault: Fault) -> FaultRule {
    FaultRule::new(Target::Model, fault)
}

fn status(code: u16) -> Fault {
    Fault::Status {
        status: code,
        body: json!({ "error": { "code": code, "status": "X" } }),
        headers: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_recovers_is_called_again() {
    let Some(app) = TestApp::start_with(|settings| settings.reply.model.timeout_ms = 500).await else { return };
    let ends = [
        ends_as(&app, "5511900000001", vec![model(status(503)).times(2)]).await,
        ends_as(&app, "5511900000002", vec![model(Fault::Gemini429 { retry_delay_s: 0.2, per_day: false })]).await,
        ends_as(&app, "5511900000003", vec![model(Fault::Garbage)]).await,
        ends_as(&app, "5511900000004", vec![model(Fault::Truncated)]).await,
        ends_as(&app, "5511900000005", vec![model(Fault::Hang { ms: 5_000 })]).await,
        ends_as(&app, "5511900000006", vec![model(Fault::Drop)]).await,
    ];
    let expected = [
        "replied, 3 calls",
        "replied, 2 calls",
        "replied, 2 calls",
        "replied, 2 calls",
        "replied, 2 calls",
        "replied, 2 calls",
    ];
    assert_eq!(ends, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_ends_in_the_fallback_text_and_what_it_used_is_booked() {
    let Some(app) = TestApp::start_with(|settings| settings.reply.model.timeout_ms = 300).await else { return };
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "usageMetadata": { "promptTokenCount": 77 } });
    let half = json!({
        "candidates": [{ "content": { "parts": [{ "text": "não devia" }] }, "finishReason": "SAFETY" }],
        "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 5 }
    });
    let unstorable =
        json!({ "candidates": [{ "content": { "parts": [{ "text": "oi\u{0}!" }] }, "finishReason": "STOP" }] });
    let ends = [
        ends_as(&app, "5511900000001", vec![model(status(500)).times(9)]).await,
        ends_as(&app, "5511900000002", vec![model(status(403))]).await,
        ends_as(&app, "5511900000003", vec![model(Fault::Gemini429 { retry_delay_s: 1.0, per_day: true })]).await,
        ends_as(&app, "5511900000004", vec![model(Fault::Answer { body: blocked })]).await,
        ends_as(&app, "5511900000005", vec![model(Fault::Answer { body: half })]).await,
        ends_as(&app, "5511900000006", vec![model(Fault::Garbage).times(9)]).await,
        ends_as(&app, "5511900000007", vec![model(Fault::Answer { body: unstorable })]).await,
    ];
    let expected = [
        "fallback unavailable, 3 calls",
        "fallback key_refused, 1 calls",
        "fallback quota_day, 1 calls",
        "fallback blocked, 1 calls",
        "fallback blocked, 1 calls",
        "fallback garbage, 3 calls",
        "replied, 1 calls",
    ];
    assert_eq!(ends.map(|it| it.replace("  ", " ")), expected);
    assert_eq!(app.sent_to("5511900000007"), ["oi!"]);
    assert!(app.sent_to("5511900000005")[0].starts_with("Recebemos sua mensagem"), "half an answer is not sent");
    assert_eq!(app.one("select string_agg(tokens_in || '+' || tokens_out, ' ' order by tokens_in) from usage_events where fact = 'model_tokens'").await, "10+5 77+0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_hangs_for_ever_costs_no_more_than_the_deadline() {
    let change = |settings: &mut secretaria::Settings| {
        settings.reply.deadline_ms = 900;
        settings.reply.model.timeout_ms = 400;
    };
    let Some(app) = TestApp::start_with(change).await else { return };
    assert_eq!(
        ends_as(&app, ANA, vec![model(Fault::Hang { ms: 60_000 }).times(9)]).await.split(',').next(),
        Some("fallback timeout")
    );
}
