//! Request ids and problem documents, around any routes.

use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::*;

fn routes() -> WithIdsAndProblems<Router> {
    let ours = || Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", "limit: too large").with_field(Some("limit"));
    let routes = Router::new()
        .route("/ours", get(move || async move { ours() }))
        .route("/query", get(|_: Query<Vec<(String, u8)>>| async { "fine" }))
        .route("/json", post(|_: Json<u8>| async { "fine" }).layer(DefaultBodyLimit::max(8)))
        .route("/report", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ok": false}))) }))
        .route("/seen", get(|id: Extension<RequestId>| async move { id.as_str().to_owned() }))
        .route("/bare", get(|| async { StatusCode::INTERNAL_SERVER_ERROR.into_response() }));
    with_ids_and_problems(routes, RequestIds::of_process([0xab; 8]))
}

async fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = routes().answer(request.body(Body::from(body)).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 16).await.unwrap();
    let read = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    (parts.status, parts.headers, read)
}

async fn id_for(headers: &[(&str, &str)]) -> String {
    let (_, answered, _) = ask("GET", "/query", headers, "").await;
    answered["x-request-id"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_problem_keeps_its_fields_and_names_the_request() {
    let (status, headers, body) = ask("GET", "/ours", &[("x-request-id", "check-1")], "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(
        body,
        json!({
            "type": "urn:secretaria:problem:bad_parameter", "title": "Bad parameter", "status": 400,
            "detail": "limit: too large", "instance": "urn:secretaria:request:check-1", "field": "limit",
            "reason": "bad_parameter", "request_id": "check-1", "error": "limit: too large",
        })
    );
}

#[tokio::test]
async fn no_error_of_the_framework_is_plain_text() {
    let json_type = ("content-type", "application/json");
    for (method, path, headers, body, expected) in [
        ("GET", "/nothing", vec![], "", (404, "unknown_path")),
        ("DELETE", "/json", vec![], "", (405, "wrong_method")),
        ("GET", "/query?a=x", vec![], "", (400, "bad_request")),
        ("POST", "/json", vec![], "1", (415, "unsupported_media_type")),
        ("POST", "/json", vec![json_type], "x", (400, "bad_request")),
        ("POST", "/json", vec![json_type], "\"text\"", (422, "unprocessable")),
        ("POST", "/json", vec![json_type], "[1, 2, 3, 4, 5]", (413, "too_large")),
        ("GET", "/bare", vec![], "", (500, "internal")),
    ] {
        let (status, headers, body) = ask(method, path, &headers, body).await;
        assert_eq!(
            (status.as_u16(), body["reason"].as_str()),
            (expected.0, Some(expected.1)),
            "{method} {path}: {body}"
        );
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{method} {path}");
        assert_eq!(body["request_id"], headers["x-request-id"].to_str().unwrap(), "{method} {path}");
        assert_eq!(body["status"], expected.0);
        assert!(!body.to_string().contains("expected"), "the framework's words stay here: {body}");
        if expected.0 == 405 {
            assert_eq!(headers[header::ALLOW], "POST");
        }
    }
}

#[tokio::test]
async fn a_report_that_is_json_stays_as_it_is() {
    let (status, headers, body) = ask("GET", "/report", &[], "").await;
    assert_eq!((status.as_u16(), body), (503, json!({"ok": false})));
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    assert!(headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_valid_id_is_returned_and_any_other_is_replaced() {
    let longest = "a".repeat(64);
    for valid in ["1", "a-B_c.d:9", "8c5d7ad8-0b3e-4f6e-9d59-0d0f5a2b9c11", &longest] {
        assert_eq!(id_for(&[("x-request-id", valid)]).await, valid);
    }
    for odd in ["", "a b", "a\tb", "a,b", "{}", "ação", "<script>", &format!("{longest}a")] {
        assert_eq!(id_for(&[("x-request-id", odd)]).await, "abababababababab-1", "{odd}");
    }
    assert_eq!(id_for(&[("x-request-id", "a"), ("x-request-id", "b")]).await, "abababababababab-1", "two are none");
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(id_for(&[trace]).await, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(id_for(&[trace, ("x-request-id", "mine")]).await, "mine", "the explicit id wins");
}

#[tokio::test]
async fn a_handler_sees_the_id_that_is_answered_and_no_other() {
    for given in ["mine", "not valid"] {
        let (_, headers, seen) = ask("GET", "/seen", &[("x-request-id", given)], "").await;
        assert_eq!(headers["x-request-id"].to_str().unwrap(), seen.as_str().unwrap(), "{given}");
    }
}

#[test]
fn ids_of_a_process_do_not_repeat() {
    let ids = RequestIds::of_process([1; 8]);
    let other = ids.clone();
    assert_eq!(ids.next().as_str(), "0101010101010101-1");
    assert_eq!(other.next().as_str(), "0101010101010101-2");
    assert_ne!(RequestIds::of_process([2; 8]).next(), RequestIds::of_process([1; 8]).next());
}
