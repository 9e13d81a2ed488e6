//! What a refused webhook leaves in the log. A test binary of its own, because a log subscriber is global to its process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use ingest::{Companies, Config, Ingest, WebhooksFirst};
use platform::health::Readiness;
use platform::http::Answers;
use platform::kafka::{self, Producer};
use platform::request::{RequestIds, with_ids_and_problems};
use serde_json::Value;

#[tokio::test]
async fn a_refusal_has_one_request_id_in_the_log_the_header_and_the_problem() {
    let captured = CapturedLog::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let readiness = Readiness::default();
    readiness.open();
    // Its companies were never loaded, so every webhook is refused.
    let ingest = Ingest {
        companies: Companies::default(),
        producer: Producer::with_short_timeout(&kafka::Config::default(), "test").unwrap(),
        config: Config::default(),
        readiness,
    };
    let routes = WebhooksFirst::new(Some(ingest.into()), Router::new());
    let routes = with_ids_and_problems(routes, RequestIds::of_process([7; 8]));
    let hook = Request::builder().method("POST").uri("/webhook/whaticket").header("x-request-id", "mine-1");
    let response = routes.answer(hook.body(Body::from("{}")).unwrap()).await;

    let (head, body) = response.into_parts();
    let body: Value = serde_json::from_slice(&to_bytes(body, 4_096).await.unwrap()).unwrap();
    assert_eq!((head.status.as_u16(), &head.headers[header::RETRY_AFTER]), (503, &"2".parse().unwrap()));
    assert_eq!(head.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!((body["reason"].as_str(), body["request_id"].as_str()), (Some("directory_not_loaded"), Some("mine-1")));
    assert_eq!(head.headers["x-request-id"], "mine-1");
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|it| it["fields"]["message"] == "webhook rejected").unwrap();
    assert_eq!(line["fields"]["correlation_id"], "mine-1", "{text}");
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
