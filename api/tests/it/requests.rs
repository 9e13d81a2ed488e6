//! What is answered over HTTP.

use std::time::Duration;

use api::auth::Scope;
use api::{Api, routes};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::post;
use domain::CompanyId;
use platform::http::Answers;
use platform::request::{RequestIds, with_ids_and_problems};
use serde_json::{Value, json};

use crate::database::{Database, now, without_postgres};

struct ApiResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

async fn ask(api: &Api, method: &str, path: &str, token: Option<&str>) -> ApiResponse {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let routes = with_ids_and_problems(routes(api.clone()), RequestIds::of_process([7; 8]));
    let response = routes.answer(request.body(Body::empty()).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store", "{path}");
    let is_error = parts.status.is_client_error() || parts.status.is_server_error();
    let kind = if is_error { "application/problem+json" } else { "application/json" };
    assert_eq!(parts.headers[header::CONTENT_TYPE], kind, "{path}");
    ApiResponse { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&bytes).unwrap() }
}

async fn get(api: &Api, path: &str, token: &str) -> ApiResponse {
    ask(api, "GET", path, Some(token)).await
}

#[tokio::test]
async fn a_company_sees_its_own_usage_in_its_own_days() {
    let Some(database) = Database::create().await else { return };
    let company = database.talking_company("a.example", 2).await;
    database.talking_company("b.example", 5).await;
    let api = database.api();
    let token = database.token(company, Scope::Company);

    let month = get(&api, &format!("/api/usage?company_id={company}"), &token).await;
    assert_eq!(month.status, StatusCode::OK);
    assert_eq!(
        month.body,
        json!({
            "company_id": company, "from": "2026-03-01", "to": "2026-03-31", "time_zone": "America/Sao_Paulo",
            "totals": {"messages_in": 2, "messages_out": 2, "tokens_in": 200, "tokens_out": 20, "tokens_cached": 2},
            "models": [{"model": "gemini-test", "tokens_in": 200, "tokens_out": 20, "tokens_cached": 2}],
            "days": [{"day": "2026-03-14", "messages_in": 2, "messages_out": 2, "tokens_in": 200, "tokens_out": 20}],
        })
    );

    let span = format!("/api/usage?company_id={company}&from=2026-02-28&to=2026-03-13");
    let earlier = get(&api, &span, &token).await;
    assert_eq!(earlier.body["totals"]["messages_in"], 999, "both ends are included");
}

#[tokio::test]
async fn conversations_come_newest_first_page_by_page_with_every_tie() {
    let Some(database) = Database::create().await else { return };
    let company = database.talking_company("a.example", 15).await;
    database.talking_company("b.example", 1).await;
    for minute in [5, 5, 5, 7] {
        database
            .conversation(company, "5511999990002@s.whatsapp.net", &format!("2026-03-15T10:0{minute}:00Z"), 1)
            .await;
    }
    let api = database.api();
    let token = database.token(company, Scope::Company);

    let mut seen = Vec::new();
    let mut next = String::new();
    for page in 0..3 {
        let path = format!("/api/conversations?company_id={company}&limit=2{next}");
        let answer = get(&api, &path, &token).await;
        assert_eq!(answer.status, StatusCode::OK);
        let conversations = answer.body["conversations"].as_array().unwrap();
        seen.extend(conversations.iter().cloned());
        match answer.body["next"].as_str() {
            Some(cursor) => next = format!("&before={cursor}"),
            None => assert_eq!(page, 2, "only the last page has no next one"),
        }
    }
    let times: Vec<_> = seen.iter().map(|it| it["last_message_at"].as_str().unwrap()).collect();
    let tie = "2026-03-15T10:05:00Z";
    assert_eq!(times, ["2026-03-15T10:07:00Z", tie, tie, tie, "2026-03-14T12:00:00Z"]);
    let mut ids: Vec<_> = seen.iter().map(|it| it["conversation_id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);

    let oldest = &seen[4];
    assert_eq!(oldest["contact"], json!({"name": "Ana", "address": "*********0001"}));
    assert_eq!(oldest["channel"], "whaticket");
    let messages = oldest["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 20, "the last twenty of thirty");
    let (at, text) = ("2026-03-14T12:00:00Z", |n: u32| format!("{company} says {n}"));
    assert_eq!(messages[0], json!({"at": at, "direction": "in", "text": text(11), "turn_outcome": "replied"}));
    let delivery = json!({"state": "ended", "outcome": "sent", "attempts": 2});
    assert_eq!(
        messages[19],
        json!({"at": at, "direction": "out", "text": text(30), "turn_outcome": "replied", "delivery": delivery})
    );
}

#[tokio::test]
async fn a_companys_token_gives_access_to_no_other_company() {
    let Some(database) = Database::create().await else { return };
    let ours = database.talking_company("a.example", 1).await;
    let theirs = database.talking_company("b.example", 2).await;
    let api = database.api();
    let company = database.token(ours, Scope::Company);
    let operator = database.token(ours, Scope::Operator);
    for path in ["/api/usage", "/api/conversations"] {
        let refused = get(&api, &format!("{path}?company_id={theirs}"), &company).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert_eq!(refused.body["reason"], "other_company");
        assert_eq!(refused.body["field"], "company_id");
        let unknown = get(&api, &format!("{path}?company_id=999999"), &company).await;
        assert_eq!(unknown.body, refused.body, "whether another company exists is not revealed");

        let shown = get(&api, &format!("{path}?company_id={theirs}"), &operator).await;
        assert_eq!((shown.status, &shown.body["company_id"]), (StatusCode::OK, &json!(theirs)));
        assert!(!shown.body.to_string().contains(&format!("{ours} says")), "the operator too sees one at a time");
        let unknown = get(&api, &format!("{path}?company_id=999999"), &operator).await;
        assert_eq!((unknown.status, &unknown.body["reason"]), (StatusCode::NOT_FOUND, &json!("unknown_company")));
    }
}

#[tokio::test]
async fn without_a_valid_token_every_request_is_refused() {
    let Some(database) = Database::create().await else { return };
    let company = database.talking_company("a.example", 1).await;
    let api = database.api();
    let hour_ago = now() - Duration::from_secs(3_600);
    let expired = database.keys.issue(company, Scope::Company, hour_ago, Duration::from_secs(60)).unwrap();
    for (token, reason) in [(None, "missing_token"), (Some("x"), "invalid_token"), (Some(&*expired), "expired_token")] {
        // The token is checked first: without a valid one not even a wrong parameter is reported.
        for path in ["/api/usage?company_id=1", "/api/usage?company_id=x", "/api/conversations"] {
            let refused = ask(&api, "GET", path, token).await;
            assert_eq!((refused.status, &refused.body["reason"]), (StatusCode::UNAUTHORIZED, &json!(reason)), "{path}");
            assert!(refused.headers[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer realm="));
        }
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let Some(database) = Database::create().await else { return };
    let company = database.talking_company("a.example", 1).await;
    let api = database.api();
    let token = database.token(company, Scope::Company);
    for (path, field) in [
        ("/api/usage".to_owned(), "company_id"),
        ("/api/usage?company_id=abc".to_owned(), "company_id"),
        ("/api/conversations?company_id=".to_owned(), "company_id"),
        (format!("/api/usage?company_id={company}&company_id=2"), "company_id"),
        (format!("/api/usage?company_id={company}&from=01/03/2026"), "from"),
        (format!("/api/usage?company_id={company}&to=2026-02-30"), "to"),
        (format!("/api/usage?company_id={company}&from=2020-01-01"), "to"),
        (format!("/api/usage?company_id={company}&form=2026-01-01"), "form"),
        (format!("/api/conversations?company_id={company}&limit=0"), "limit"),
        (format!("/api/conversations?company_id={company}&before=x"), "before"),
        (format!("/api/conversations?company_id={company}&cursor=x"), "cursor"),
    ] {
        let refused = get(&api, &path, &token).await;
        assert_eq!((refused.status, &refused.body["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{path}");
        assert!(refused.body["error"].as_str().unwrap().starts_with(field), "{path}");
        assert_eq!((&refused.body["detail"], &refused.body["status"]), (&refused.body["error"], &json!(400)), "{path}");
        assert_eq!(refused.body["type"], "urn:secretaria:problem:bad_parameter");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_json() {
    let api = without_postgres();
    for path in ["/api", "/api/", "/api/nothing", "/api/usage/", "/api/usage/1"] {
        let answer = ask(&api, "GET", path, None).await;
        assert_eq!((answer.status, &answer.body["reason"]), (StatusCode::NOT_FOUND, &json!("unknown_path")), "{path}");
    }
    let answer = ask(&api, "POST", "/api/usage", None).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers.get_all(header::ALLOW).iter().collect::<Vec<_>>(), ["GET,HEAD"]);
    assert_eq!(answer.body["reason"], "wrong_method");
}

#[tokio::test]
async fn the_description_is_open_and_served_as_it_was_given() {
    let answer = ask(&without_postgres(), "GET", "/api/openapi.json", None).await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({"openapi": "3.1.0"})));
}

#[tokio::test]
async fn a_page_does_not_shift_when_conversations_are_added() {
    let Some(database) = Database::create().await else { return };
    let company = database.talking_company("a.example", 1).await;
    for minute in 1..=4 {
        database.conversation(company, "5511999990002", &format!("2026-03-15T10:0{minute}:00Z"), 1).await;
    }
    let api = database.api();
    let token = database.token(company, Scope::Company);
    let mut path = format!("/api/conversations?company_id={company}&limit=2");
    let mut seen = Vec::new();
    loop {
        let page = get(&api, &path, &token).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        let shown = page.body["conversations"].as_array().unwrap().iter();
        seen.extend(shown.map(|it| it["last_message_at"].as_str().unwrap().to_owned()));
        assert_eq!(page.body["next"], page.body["next_cursor"], "one cursor under both names");
        let Some(link) = page.headers.get(header::LINK) else {
            assert_eq!(page.body["next_cursor"], Value::Null);
            break;
        };
        let target =
            link.to_str().unwrap().strip_prefix('<').and_then(|it| it.strip_suffix(">; rel=\"next\"")).unwrap();
        assert_eq!(
            target,
            format!(
                "/api/conversations?company_id={company}&limit=2&cursor={}",
                page.body["next_cursor"].as_str().unwrap()
            )
        );
        target.clone_into(&mut path);
        // Newer than all others, so it belongs on the first page.
        database.conversation(company, "5511999990003", "2026-03-15T11:00:00Z", 1).await;
    }
    let minute = |it: u32| format!("2026-03-15T10:0{it}:00Z");
    assert_eq!(seen, [minute(4), minute(3), minute(2), minute(1), "2026-03-14T12:00:00Z".to_owned()]);
}

#[tokio::test]
async fn a_cursor_of_one_company_is_refused_for_another() {
    let Some(database) = Database::create().await else { return };
    let ours = database.talking_company("a.example", 1).await;
    let theirs = database.talking_company("b.example", 1).await;
    database.conversation(ours, "5511999990002", "2026-03-15T10:00:00Z", 1).await;
    let api = database.api();
    let operator = database.token(ours, Scope::Operator);
    let page = get(&api, &format!("/api/conversations?company_id={ours}&limit=1"), &operator).await;
    let cursor = page.body["next_cursor"].as_str().unwrap();
    let refused = get(&api, &format!("/api/conversations?company_id={theirs}&cursor={cursor}"), &operator).await;
    assert_eq!((refused.status, &refused.body["field"]), (StatusCode::BAD_REQUEST, &json!("cursor")));
}

#[tokio::test]
async fn routers_of_other_crates_can_be_merged() {
    let others = Router::new().route("/api/agenda/webhook/cal", post(async || "theirs")).fallback(async || "panel");
    let merged = routes(without_postgres()).merge(others);
    for (method, path, expected) in [
        ("POST", "/api/agenda/webhook/cal", StatusCode::OK),
        ("GET", "/painel", StatusCode::OK),
        ("GET", "/api/agenda", StatusCode::NOT_FOUND),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        assert_eq!(merged.answer(request).await.status(), expected, "{path}");
    }
}

#[tokio::test]
async fn without_postgres_the_answer_is_a_503_with_retry_after() {
    let api = without_postgres();
    let token = api.keys.issue(CompanyId(1), Scope::Company, now(), Duration::from_secs(60)).unwrap();
    let answer = get(&api, "/api/usage?company_id=1", &token).await;
    assert_eq!((answer.status, &answer.body["reason"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")));
    assert_eq!(answer.headers[header::RETRY_AFTER], "2");
}
