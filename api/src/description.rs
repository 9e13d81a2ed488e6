//! `GET /api/openapi.json` — the OpenAPI document of every route of the product.
//!
//! It is generated from the code, and the same whatever roles a process has. It needs no token, because it holds nothing
//! of any company.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse;

use crate::Api;

/// This document.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    operation_id = "describe",
    tag = "description",
    security(()),
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object, content_type = "application/json")),
)]
pub(crate) async fn answer(State(api): State<Api>) -> impl IntoResponse {
    let json: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];
    (StatusCode::OK, json, api.description.to_string())
}
