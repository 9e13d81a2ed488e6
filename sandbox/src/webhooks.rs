//! Receivers of webhooks, as somebody who has read only the Standard Webhooks specification would write them.
//!
//! A receiver exists once its secrets were given through the control API. It takes what is signed with one of them, at
//! most five minutes from now, and answers 204; what is not it answers 401. Source: github.com/standard-webhooks,
//! `spec/standard-webhooks.md`. Written without a look at how we sign, so that the two check each other.

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

use crate::exchange::{Desk, Outcome, Request, exchange};
use crate::journal::Target;
use crate::server::Line;

/// How far a call's timestamp may be from now, either way.
const TOLERANCE_S: i64 = 300;
/// Receivers kept at most.
const MAX_RECEIVERS: usize = 10_000;

/// What a receiver knows: any of these secrets will do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Each `whsec_` and base64.
    pub secrets: Vec<String>,
}

/// Why a receiver was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverRefused {
    /// A secret is no secret.
    #[error("a secret is whsec_ and base64")]
    Secret,
    /// There are too many.
    #[error("there are already {MAX_RECEIVERS} receivers")]
    Full,
}

/// The receivers there are, by name.
#[derive(Debug, Default)]
pub(crate) struct Receivers(Mutex<BTreeMap<String, Vec<Vec<u8>>>>);

impl Receivers {
    /// Makes a receiver, or gives it other secrets.
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
    State(desk): State<Arc<Desk>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut request = Request::arrived(Target::Webhook, &headers);
    request.text = Some(String::from_utf8_lossy(&body).into_owned());
    request.message_key = word(&headers, "webhook-id").map(str::to_owned);
    let keys = desk.receivers.keys(&name);
    request.number = Some(name);
    exchange(&desk, &line, request, |request| judge(keys, request.at, &headers, &body)).await
}

fn judge(keys: Option<Vec<Vec<u8>>>, at: i64, headers: &HeaderMap, body: &[u8]) -> Outcome {
    let refuse = |status, error: &str| Outcome::refused(status, &json!({"error": error}), error);
    let Some(keys) = keys else { return refuse(StatusCode::NOT_FOUND, "no such receiver") };
    match verify(&keys, at / 1_000_000, headers, body) {
        Ok(()) => Outcome::taken(StatusCode::NO_CONTENT),
        Err(why) => refuse(StatusCode::UNAUTHORIZED, why),
    }
}

fn verify(keys: &[Vec<u8>], now_s: i64, headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
    let id = word(headers, "webhook-id").ok_or("no webhook-id")?;
    let timestamp = word(headers, "webhook-timestamp").ok_or("no webhook-timestamp")?;
    let signatures = word(headers, "webhook-signature").ok_or("no webhook-signature")?;
    let signed_at: i64 = timestamp.parse().map_err(|_| "webhook-timestamp is no number")?;
    if now_s.abs_diff(signed_at) > TOLERANCE_S.unsigned_abs() {
        return Err("webhook-timestamp is too far from now");
    }
    let mut claimed =
        signatures.split(' ').filter_map(|it| it.strip_prefix("v1,")).filter_map(|it| STANDARD.decode(it).ok());
    let fits = |claimed: Vec<u8>| {
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
    if claimed.any(fits) { Ok(()) } else { Err("no signature fits") }
}

fn word<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
