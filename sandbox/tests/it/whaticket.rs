//! Whaticket's wire format.

use sandbox::{Filter, SettingsChange};
use serde_json::{Value, json};

use crate::{TestSandbox, json_of};

const ANA: &str = "5511999990001";

#[tokio::test]
async fn a_message_is_sent_and_logged_with_its_trace_and_key() {
    let test = TestSandbox::start().await;
    let request = test.send(ANA, "Olá, Ana").header("traceparent", "00-a-b-01").header("x-secretaria-delivery", "d-1");
    let (status, body) = json_of(request.send().await.unwrap()).await;
    assert_eq!((status, body), (200, json!({"mensagem": "Mensagem enviada"})));
    let log = test.sandbox.log(&Filter::sent());
    assert_eq!(log.len(), 1);
    let entry = &log[0];
    assert_eq!((entry.number.as_deref(), entry.text.as_deref()), (Some(ANA), Some("Olá, Ana")));
    assert_eq!((entry.trace.as_deref(), entry.message_key.as_deref()), (Some("00-a-b-01"), Some("d-1")));
    assert_eq!((entry.token.as_deref(), entry.status, entry.fault), (Some("conexao-1"), Some(200), None));
    assert!(entry.at > 0);
}

#[tokio::test]
async fn a_bad_message_is_refused_and_not_performed() {
    let test = TestSandbox::start().await;
    let cases: [(Value, u16, &str); 4] = [
        (json!({"body": "oi"}), 400, "O número é obrigatório"),
        (json!({"number": "+55 11", "body": "oi"}), 400, "Invalid number format. Only numbers is allowed."),
        (json!({"number": ANA}), 400, "body is a required field"),
        (json!("not an object"), 400, "O número é obrigatório"),
    ];
    for (message, status, error) in cases {
        let request = test.client.post(test.url("/api/messages/send")).bearer_auth("conexao-1").json(&message);
        assert_eq!(json_of(request.send().await.unwrap()).await, (status, json!({"error": error})));
    }
    assert_eq!(test.sandbox.count(&Filter::sent()), 0);
}

#[tokio::test]
async fn a_message_without_a_valid_token_is_refused() {
    let test = TestSandbox::start().await;
    let url = test.url("/api/messages/send");
    let message = json!({"number": ANA, "body": "oi"});
    for request in [test.client.post(&url), test.client.post(&url).bearer_auth("invalid-token")] {
        let answer = json_of(request.json(&message).send().await.unwrap()).await;
        assert_eq!(answer, (401, json!({"error": "Acesso não permitido"})));
    }
}

#[tokio::test]
async fn a_login_is_valid_for_the_send_api_until_it_is_revoked() {
    let test = TestSandbox::start().await;
    let response = test.login("segredo").send().await.unwrap();
    assert!(response.headers()["set-cookie"].to_str().unwrap().starts_with("jrt="));
    let (status, body) = json_of(response).await;
    assert_eq!((status, &body["user"]["email"]), (200, &json!("ana@exemplo.test")));
    let token = body["token"].as_str().unwrap();
    assert_eq!(token.split('.').count(), 3);

    let send = |token: &str| {
        let message = json!({"number": ANA, "body": "oi"});
        test.client.post(test.url("/api/messages/send")).bearer_auth(token).json(&message)
    };
    assert_eq!(send(token).send().await.unwrap().status(), 200);
    test.sandbox.revoke_tokens();
    assert_eq!(send(token).send().await.unwrap().status(), 401);
    let (_, renewed) = json_of(test.login("segredo").send().await.unwrap()).await;
    assert_eq!(send(renewed["token"].as_str().unwrap()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_token_past_its_lifetime_is_refused() {
    let test = TestSandbox::start().await;
    test.sandbox.settings(SettingsChange { login_ttl_s: Some(0), ..SettingsChange::default() });
    let (_, body) = json_of(test.login("segredo").send().await.unwrap()).await;
    let request = test.client.post(test.url("/api/messages/send")).bearer_auth(body["token"].as_str().unwrap());
    let response = request.json(&json!({"number": ANA, "body": "oi"})).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn a_wrong_password_gets_the_forks_error() {
    let test = TestSandbox::start().await;
    let answer = json_of(test.login("wrong").send().await.unwrap()).await;
    assert_eq!(answer, (401, json!({"error": "ERR_INVALID_CREDENTIALS"})));
}
