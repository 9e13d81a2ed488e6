//! Deliveries: attempts, order, and a provider that fails.

use api::companies::Auth;
use sandbox::{Fault, FaultRule, Filter, Target};
use serde_json::json;

use crate::support::app::{TestApp, a_moment};

const ANA: &str = "5511999990001";

fn send(fault: Fault) -> FaultRule {
    FaultRule::new(Target::Send, fault)
}

fn refusal(status: u16, error: &str) -> Fault {
    Fault::Status { status, body: json!({ "error": error }), headers: Default::default() }
}

/// One message to a number whose sends have faults, and its attempts.
async fn attempts_of(app: &TestApp, number: &str, faults: Vec<FaultRule>) -> String {
    let clinic = app.add_company(&format!("c{number}.test"), Auth::Token("bridge-token".into())).await;
    app.known(&clinic).await;
    for fault in faults {
        app.sandbox.fault(fault.number(number)).unwrap();
    }
    app.accept(&clinic.text(number, "A1", "oi")).await;
    app.settles().await;
    app.one(&format!(
        "select string_agg(concat_ws(' ', result, class), ', ' order by attempt)
         from delivery_attempts where company_id = {}",
        clinic.company_id
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_of_the_provider_has_its_verdict() {
    let Some(app) = TestApp::start().await else { return };
    let once = |fault| vec![send(fault)];
    let attempts = [
        attempts_of(&app, "5511900000001", vec![send(refusal(500, "Internal server error")).times(2)]).await,
        attempts_of(&app, "5511900000002", once(refusal(400, "ERR_WAPP_NOT_INITIALIZED"))).await,
        attempts_of(&app, "5511900000003", once(refusal(400, "ERR_CHECK_NUMBER"))).await,
        attempts_of(&app, "5511900000004", once(refusal(400, "O número é obrigatório"))).await,
        attempts_of(&app, "5511900000005", once(refusal(401, "Acesso não permitido"))).await,
        attempts_of(&app, "5511900000006", once(refusal(400, "ERR_SENDING_WAPP_MSG"))).await,
        attempts_of(&app, "5511900000007", once(Fault::SilentSuccess)).await,
        attempts_of(&app, "5511900000008", once(Fault::Garbage)).await,
    ];
    let word = |it: &String| -> String {
        it.split(", ").map(|attempt| attempt.split(' ').next().unwrap_or("")).collect::<Vec<_>>().join(" ")
    };
    let expected = [
        "FAILED_TEMPORARY FAILED_TEMPORARY SENT",
        "FAILED_TEMPORARY SENT",
        "FAILED_PERMANENT",
        "FAILED_PERMANENT",
        "FAILED_PERMANENT",
        "UNKNOWN SENT",
        "UNKNOWN SENT",
        "SENT",
    ];
    assert_eq!(attempts.iter().map(word).collect::<Vec<_>>(), expected, "{attempts:#?}");
    assert_eq!(app.one("select count(*)::text from dead_letters where processor = 'delivery'").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_six_attempts_it_becomes_a_dead_letter() {
    let Some(app) = TestApp::start().await else { return };
    let attempts = attempts_of(&app, ANA, vec![send(refusal(503, "x")).times(99)]).await;
    let results: Vec<&str> = attempts.split(", ").map(|it| it.split(' ').next().unwrap()).collect();
    assert_eq!(
        results,
        [
            "FAILED_TEMPORARY",
            "FAILED_TEMPORARY",
            "FAILED_TEMPORARY",
            "FAILED_TEMPORARY",
            "FAILED_TEMPORARY",
            "FAILED_PERMANENT"
        ]
    );
    assert_eq!(app.one("select concat(state, ' ', attempts) from dead_letters").await, "waiting 6");
    assert_eq!(app.one("select state from event_outcomes where processor = 'delivery'").await, "dead_lettered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_whose_send_is_unknown_is_sent_at_most_twice() {
    let Some(app) = TestApp::start().await else { return };
    let attempts = attempts_of(&app, ANA, vec![send(Fault::SilentSuccess).times(99)]).await;
    let results: Vec<&str> = attempts.split(", ").map(|it| it.split(' ').next().unwrap()).collect();
    assert_eq!(results, ["UNKNOWN", "UNKNOWN"]);
    assert_eq!(app.sandbox.count(&Filter::of(Target::Send)), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_head_of_a_conversation_waits_those_behind_it_wait_too() {
    let Some(app) = TestApp::start_with(|settings| settings.delivery.time_scale = 0.3).await else { return };
    let clinic = app.company("clinica.test").await;
    app.sandbox.fault(send(refusal(500, "x")).number(ANA)).unwrap();
    app.accept(&clinic.text(ANA, "A1", "qual o preço?")).await;
    app.comes_to("select string_agg(result, ' ') from delivery_attempts", "FAILED_TEMPORARY").await;
    app.accept(&clinic.text(ANA, "A2", "qual o horário de atendimento?")).await;
    app.accept(&clinic.text("5511999990002", "B1", "oi")).await;
    app.comes_to(
        "select string_agg(state, ' ' order by position) from deliveries where send_to = '5511999990001'",
        "waiting waiting",
    )
    .await;
    app.comes_to("select state from deliveries where send_to = '5511999990002'", "ended").await;
    a_moment().await;
    assert_eq!(app.sent_to(ANA).len(), 0, "the second did not overtake the first");
    app.settles().await;
    let sent = app.sent_to(ANA);
    assert!(sent[0].contains("150") && sent[1].contains("18h"), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_renewed_once_when_its_token_is_refused() {
    let Some(app) = TestApp::start().await else { return };
    let auth = Auth::Login { email: "secretaria@clinica.test".into(), password: "right-password".into() };
    let clinic = app.company_with("clinica.test", auth).await;
    app.accept(&clinic.text(ANA, "A1", "oi")).await;
    app.settles().await;
    app.sandbox.revoke_tokens();
    app.accept(&clinic.text(ANA, "A2", "tudo bem?")).await;
    app.settles().await;
    assert_eq!(app.attempts().await, "SENT\nSENT");
    assert_eq!(app.sandbox.count(&Filter::of(Target::Login)), 2);
    assert_eq!(app.sent_to(ANA).len(), 2);
}
