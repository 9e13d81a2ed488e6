//! Receivers of webhooks, written from the Standard Webhooks specification alone.
//!
//! A receiver exists once its secrets were given through the control API. It answers 204 to a call that is signed with
//! one of them, at most five minutes from now, and 401 to any other. Source: github.com/standard-webhooks,
//! `spec/standard-webhooks.md`. It shares no code with the signing side, so that the two check each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, Path, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

use crate::exchange::{ProviderResponse, Request, SandboxState, exchange};
use crate::request_log::Target;
use crate::server::ConnectionHandle;

/// How far a call's timestamp may be from now, either way.
const TOLERANCE_S: i64 = 300;
/// How many receivers are kept at most.
const MAX_RECEIVERS: usize = 10_000;

/// A receiver's secrets; a signature by any of them is valid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Each `whsec_` and base64.
    pub secrets: Vec<String>,
}

/// Why a receiver was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverRefused {
    #[error("a secret is whsec_ and base64")]
    Secret,
    #[error("there are already {MAX_RECEIVERS} receivers")]
    Full,
}

/// The receivers, by name.
#[derive(Debug, Default)]
pub(crate) struct Receivers(Mutex<BTreeMap<String, Vec<Vec<u8>>>>);

impl Receivers {
    /// Creates a receiver, or replaces its secrets.
    pub(crate) fn put(&self, name: &str, receiver: &Receiver) -> Result<(), ReceiverRefused> {
        let key = |text: &String| text.strip_prefix("whsec_").and_then(|it| STANDARD.decode(it).ok());
        let keys: Option<Vec<Vec<u8>>> = receiver.secrets.iter().map(key).collect();
        let mut receivers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if receivers.len() >= MAX_RECEIVERS && !receivers.contains_key(name) {
            return Err(ReceiverRefused::Full);
        }
        receivers.insert(name.to_owned(), keys.ok_or(ReceiverRefused::Secret)?);
        Ok(())
    }

    fn keys(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

pub(crate) async fn receive(
    State(state): State<Arc<SandboxState>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut request = Request::arrived(Target::Webhook, &headers);
    request.text = Some(String::from_utf8_lossy(&body).into_owned());
    request.message_key = header(&headers, "webhook-id").map(str::to_owned);
    let keys = state.receivers.keys(&name);
    request.number = Some(name);
    exchange(&state, &connection, request, |request| respond(keys, request.at, &headers, &body)).await
}

fn respond(keys: Option<Vec<Vec<u8>>>, at: i64, headers: &HeaderMap, body: &[u8]) -> ProviderResponse {
    let refuse = |status, error: &str| ProviderResponse::refused(status, &json!({"error": error}), error);
    let Some(keys) = keys else { return refuse(StatusCode::NOT_FOUND, "no such receiver") };
    match verify(&keys, at / 1_000_000, headers, body) {
        Ok(()) => ProviderResponse::accepted(StatusCode::NO_CONTENT),
        Err(why) => refuse(StatusCode::UNAUTHORIZED, why),
    }
}

fn verify(keys: &[Vec<u8>], now_s: i64, headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
    let id = header(headers, "webhook-id").ok_or("no webhook-id")?;
    let timestamp = header(headers, "webhook-timestamp").ok_or("no webhook-timestamp")?;
    let signatures = header(headers, "webhook-signature").ok_or("no webhook-signature")?;
    let signed_at: i64 = timestamp.parse().map_err(|_| "webhook-timestamp is no number")?;
    if now_s.abs_diff(signed_at) > TOLERANCE_S.unsigned_abs() {
        return Err("webhook-timestamp is too far from now");
    }
    let mut claimed =
        signatures.split(' ').filter_map(|it| it.strip_prefix("v1,")).filter_map(|it| STANDARD.decode(it).ok());
    let is_valid = |claimed: Vec<u8>| {
        keys.iter().any(|key| {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
            mac.update(id.as_bytes());
            mac.update(b".");
            mac.update(timestamp.as_bytes());
            mac.update(b".");
            mac.update(body);
            mac.verify_slice(&claimed).is_ok()
        })
    };
    if claimed.any(is_valid) { Ok(()) } else { Err("no signature fits") }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
