//! The control API under `/_sandbox` — script faults, change latencies, read the log. No provider has these routes.
//!
//! | call | does |
//! |---|---|
//! | `POST /faults` | adds a [`FaultRule`]; `201 {"id"}` |
//! | `GET /faults`, `DELETE /faults` | lists rules with what is left of them; clears them |
//! | `GET /settings`, `POST /settings` | reads; changes the figures named |
//! | `POST /webhooks/{name}` | makes a receiver with these `{"secrets": […]}`, or gives it others |
//! | `POST /tokens/revoke` | every token issued so far is refused from now on |
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

use crate::exchange::Desk;
use crate::faults::{FaultRule, Standing};
use crate::journal::{Entry, Filter};
use crate::settings::{Settings, SettingsChange};
use crate::webhooks::Receiver;

type Control = State<Arc<Desk>>;

pub(crate) fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/faults", get(list_faults).post(add_fault).delete(clear_faults))
        .route("/settings", get(settings).post(change_settings))
        .route("/webhooks/{name}", post(put_receiver))
        .route("/tokens/revoke", post(revoke_tokens))
        .route("/log", get(log).delete(clear_log))
        .route("/log/count", get(count))
}

async fn add_fault(State(desk): Control, Json(rule): Json<FaultRule>) -> Response {
    match desk.faults.add(rule) {
        Ok(id) => (StatusCode::CREATED, Json(json!({"id": id}))).into_response(),
        Err(refused) => (StatusCode::BAD_REQUEST, Json(json!({"error": refused.to_string()}))).into_response(),
    }
}

async fn list_faults(State(desk): Control) -> Json<Vec<Standing>> {
    Json(desk.faults.list())
}

async fn clear_faults(State(desk): Control) -> StatusCode {
    desk.faults.clear();
    StatusCode::NO_CONTENT
}

async fn settings(State(desk): Control) -> Json<Settings> {
    Json(desk.settings())
}

async fn change_settings(State(desk): Control, Json(change): Json<SettingsChange>) -> Json<Settings> {
    Json(desk.change(change))
}

async fn put_receiver(State(desk): Control, Path(name): Path<String>, Json(receiver): Json<Receiver>) -> Response {
    match desk.receivers.put(&name, &receiver) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => (StatusCode::BAD_REQUEST, Json(json!({"error": refused.to_string()}))).into_response(),
    }
}

async fn revoke_tokens(State(desk): Control) -> StatusCode {
    desk.sessions.revoke();
    StatusCode::NO_CONTENT
}

async fn log(State(desk): Control, Query(filter): Query<Filter>) -> Json<Vec<Entry>> {
    Json(desk.journal.list(&filter))
}

async fn count(State(desk): Control, Query(filter): Query<Filter>) -> Json<Value> {
    Json(json!({"count": desk.journal.count(&filter)}))
}

async fn clear_log(State(desk): Control) -> StatusCode {
    desk.journal.clear();
    StatusCode::NO_CONTENT
}
