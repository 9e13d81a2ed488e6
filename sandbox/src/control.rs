//! The control API under `/_sandbox` — script faults, change latencies, read the log. No provider has these routes.
//!
//! | call | does |
//! |---|---|
//! | `POST /faults` | adds a [`FaultRule`]; `201 {"id"}` |
//! | `GET /faults`, `DELETE /faults` | lists rules with their remaining times; clears them |
//! | `GET /settings`, `POST /settings` | reads; changes the given settings |
//! | `POST /webhooks/{name}` | creates a receiver with these `{"secrets": […]}`, or replaces its secrets |
//! | `POST /tokens/revoke` | from now on every token issued so far is refused |
//! | `GET /log?target=&number=&text=&token=&message_key=&performed=&after_seq=&limit=` | entries, oldest first |
//! | `GET /log/count?…` | `{"count"}` under the same filter |
//! | `DELETE /log` | empties the log; sequence numbers go on |

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};

use crate::exchange::SandboxState;
use crate::faults::{FaultRule, RuleStatus};
use crate::request_log::{Entry, Filter};
use crate::settings::{Settings, SettingsChange};
use crate::webhooks::Receiver;

type Control = State<Arc<SandboxState>>;

pub(crate) fn routes() -> Router<Arc<SandboxState>> {
    Router::new()
        .route("/faults", get(list_faults).post(add_fault).delete(clear_faults))
        .route("/settings", get(settings).post(change_settings))
        .route("/webhooks/{name}", post(put_receiver))
        .route("/tokens/revoke", post(revoke_tokens))
        .route("/log", get(log).delete(clear_log))
        .route("/log/count", get(count))
}

async fn add_fault(State(state): Control, Json(rule): Json<FaultRule>) -> Response {
    match state.faults.add(rule) {
        Ok(id) => (StatusCode::CREATED, Json(json!({"id": id}))).into_response(),
        Err(refused) => (StatusCode::BAD_REQUEST, Json(json!({"error": refused.to_string()}))).into_response(),
    }
}

async fn list_faults(State(state): Control) -> Json<Vec<RuleStatus>> {
    Json(state.faults.list())
}

async fn clear_faults(State(state): Control) -> StatusCode {
    state.faults.clear();
    StatusCode::NO_CONTENT
}

async fn settings(State(state): Control) -> Json<Settings> {
    Json(state.settings())
}

async fn change_settings(State(state): Control, Json(change): Json<SettingsChange>) -> Json<Settings> {
    Json(state.change(change))
}

async fn put_receiver(State(state): Control, Path(name): Path<String>, Json(receiver): Json<Receiver>) -> Response {
    match state.receivers.put(&name, &receiver) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => (StatusCode::BAD_REQUEST, Json(json!({"error": refused.to_string()}))).into_response(),
    }
}

async fn revoke_tokens(State(state): Control) -> StatusCode {
    state.sessions.revoke();
    StatusCode::NO_CONTENT
}

async fn log(State(state): Control, Query(filter): Query<Filter>) -> Json<Vec<Entry>> {
    Json(state.log.list(&filter))
}

async fn count(State(state): Control, Query(filter): Query<Filter>) -> Json<Value> {
    Json(json!({"count": state.log.count(&filter)}))
}

async fn clear_log(State(state): Control) -> StatusCode {
    state.log.clear();
    StatusCode::NO_CONTENT
}
