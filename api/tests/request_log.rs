//! What a request leaves in the log. A test binary of its own, because a log subscriber is global to its process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::auth::{Keys, Scope};
use api::{Api, keys, routes};
use axum::body::Body;
use axum::http::{Request, header};
use domain::CompanyId;
use platform::clock;
use platform::http::Answers;
use platform::postgres::{Config, Db};
use platform::request::{RequestIds, with_ids_and_problems};
use platform::seal::random_bytes;
use serde_json::{Value, json};

#[tokio::test]
async fn a_request_leaves_one_line_with_company_and_route_and_no_secret() {
    let dir = std::env::temp_dir().join(format!("request_log_{}", hex::encode(random_bytes::<8>().unwrap())));
    keys::create_missing(&dir).unwrap();
    let signing = Arc::new(Keys::from_pkcs8_file(&dir.join(keys::SIGNING_KEY)).unwrap());
    std::fs::remove_dir_all(dir).unwrap();
    let token = signing.issue(CompanyId(7), Scope::Company, clock::now(), Duration::from_secs(60)).unwrap();
    // Never connected to: the request is refused before.
    let config = Config::default();
    let api = Api::new(Db::new(&config.api_url, &config, "request log").unwrap(), signing, "{}".into());

    let captured = CapturedLog::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let request = Request::builder()
        .uri("/api/usage?company_id=8&from=2026-03-01")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .body(Body::empty());
    let routes = with_ids_and_problems(routes(api), RequestIds::of_process([7; 8]));
    routes.answer(request.unwrap()).await;
    // A phone number in a path that does not exist, or in a query, must not be logged.
    let elsewhere = Request::builder().uri("/5511999990001?q=5511999990001").header("x-request-id", "mine-1");
    routes.answer(elsewhere.body(Body::empty()).unwrap()).await;

    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [line, elsewhere] = lines.as_slice() else { panic!("{text}") };
    let fields = &line["fields"];
    assert_eq!(fields["correlation_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(
        (&fields["method"], &fields["path"], &fields["status"]),
        (&json!("GET"), &json!("/api/usage"), &json!(403))
    );
    assert_eq!(fields["company_id"], 7, "the token's company, since the company asked for was refused");
    assert!(fields["duration_ms"].is_f64());
    let fields = &elsewhere["fields"];
    assert_eq!((&fields["correlation_id"], &fields["status"]), (&json!("mine-1"), &json!(404)));
    assert!(!text.contains("999990001"), "a path without a route is not logged");
    assert!(!text.contains(&token) && !text.contains("2026-03-01"), "neither the token nor the query");
}

#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
