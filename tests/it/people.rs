//! What people and their tools see: the API, health, metrics.

use api::auth::{Keys, Scope};
use domain::CompanyId;
use platform::clock;
use serde_json::Value;

use crate::support::app::TestApp;

async fn get(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = reqwest::Client::new().get(format!("{}{path}", app.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_company_sees_its_own_usage_and_no_other() {
    let Some(app) = TestApp::start().await else { return };
    let clinic = app.company("clinica.test").await;
    let salon = app.company("salao.test").await;
    app.accept(&clinic.text("5511999990001", "A1", "oi")).await;
    app.accept(&salon.text("5511999990002", "A1", "oi")).await;
    app.accept(&salon.text("5511999990003", "A1", "oi")).await;
    app.settles().await;
    let keys = Keys::from_pkcs8_file(&app.settings.keys.signing_key()).unwrap();
    let token =
        keys.issue(CompanyId(clinic.company_id), Scope::Company, clock::now(), app.settings.api.token_ttl()).unwrap();
    let bearer = format!("Bearer {token}");
    let of = |company: i64| format!("/api/usage?company_id={company}");
    let (status, body) = get(&app, &of(clinic.company_id), &[("authorization", &bearer)]).await;
    let usage: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, usage["totals"]["messages_in"].as_i64(), usage["totals"]["messages_out"].as_i64()),
        (200, Some(1), Some(1))
    );
    assert_eq!(get(&app, &of(salon.company_id), &[("authorization", &bearer)]).await.0, 403);
    assert_eq!(get(&app, &of(clinic.company_id), &[]).await.0, 401);
    let path = format!("/api/conversations?company_id={}", clinic.company_id);
    let (status, body) = get(&app, &path, &[("authorization", &bearer)]).await;
    assert_eq!(status, 200);
    assert!(body.contains("oi") && !body.contains("999990001"), "numbers are masked: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_deep_and_readiness_is_not() {
    let Some(app) = TestApp::start().await else { return };
    assert_eq!(get(&app, "/livez", &[]).await.0, 200);
    assert_eq!(get(&app, "/readyz", &[]).await.0, 200);
    crate::support::eventually("every dependency answers", || async {
        let (status, body) = get(&app, "/healthz", &[]).await;
        let counts = serde_json::from_str::<Value>(&body).unwrap()["open_circuits"].is_u64();
        if status == 200 && counts { Ok(()) } else { Err(body) }
    })
    .await;
    app.broker.down();
    crate::support::eventually("the broker's absence is seen", || async {
        let (status, body) = get(&app, "/healthz", &[]).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let kafka = body["dependencies"]["kafka"]["ok"].as_bool();
        if (status, kafka) == (503, Some(false)) { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    assert_eq!(get(&app, "/readyz", &[]).await.0, 200, "a broker away is no reason to stop sending us webhooks");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_do_not_exist_for_other_machines() {
    let Some(app) = TestApp::start_with(|settings| settings.http.metrics_token = "letmein".into()).await else {
        return;
    };
    // No recorder is installed in this process, so every request gets 404 here; one from elsewhere always does.
    assert_eq!(get(&app, "/metrics", &[("x-forwarded-for", "203.0.113.9")]).await.0, 404);
    assert_eq!(
        get(&app, "/metrics", &[("x-forwarded-for", "203.0.113.9"), ("authorization", "Bearer no")]).await.0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_has_one_shape_and_names_the_request() {
    let Some(app) = TestApp::start().await else { return };
    let client = reqwest::Client::new();
    for (method, path, status, reason) in [
        ("GET", "/nothing/5511999990001", 404, "unknown_path"),
        ("GET", "/api/nothing", 404, "unknown_path"),
        ("POST", "/livez", 405, "wrong_method"),
        ("DELETE", "/api/usage", 405, "wrong_method"),
        ("GET", "/webhook/whaticket", 405, "wrong_method"),
        ("GET", "/api/usage?company_id=1", 401, "missing_token"),
        ("GET", "/metrics", 404, "unknown_path"),
    ] {
        let url = format!("{}{path}", app.url());
        let request = client.request(method.parse().unwrap(), url).header("x-request-id", "mine-1");
        let response = request.send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        assert_eq!(header("content-type").as_deref(), Some("application/problem+json"), "{method} {path}");
        assert_eq!(header("x-request-id").as_deref(), Some("mine-1"), "{method} {path}");
        assert_eq!(header("allow").is_some(), status == 405, "{method} {path}");
        assert_eq!(response.status(), status, "{method} {path}");
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!((body["reason"].as_str(), body["request_id"].as_str()), (Some(reason), Some("mine-1")), "{body}");
        assert!(!body.to_string().contains("999990001"), "nothing of the request is in the response: {body}");
    }
    let (status, served) = get(&app, "/api/openapi.json", &[]).await;
    assert_eq!((status, served), (200, secretaria::openapi::document().unwrap()));
}
