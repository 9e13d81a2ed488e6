//! Whaticket's send API and login, as the SaaS forks answer them.
//!
//! Sources: whaticket-community `ApiController.ts` and `ApiRoutes.ts` (number rules), launcherbr/whaticketsaas
//! `MessageController.send`, `tokenAuth.ts`, `SessionController.store` and `CreateTokens.ts` (answers, tokens).
//! Errors are `{"error": "<string>"}`; a success carries no message id, which is the point of testing against it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::exchange::{ProviderResponse, Request, SandboxState, exchange};
use crate::request_log::Target;
use crate::server::ConnectionHandle;

/// Signs tokens that are valid in this sandbox only.
const SIGNING_KEY: &[u8] = b"the sandbox guards nothing";

pub(crate) async fn send(
    State(state): State<Arc<SandboxState>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let message: Option<Value> = serde_json::from_slice(&body).ok();
    let mut request = Request::arrived(Target::Send, &headers);
    request.token = bearer(&headers);
    request.number = message.as_ref().and_then(|message| written(message, "number"));
    request.text = message.as_ref().and_then(|message| written(message, "body"));
    exchange(&state, &connection, request, |request| respond_to_send(&state.sessions, request, message.as_ref())).await
}

pub(crate) async fn login(
    State(state): State<Arc<SandboxState>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let credentials: Option<Value> = serde_json::from_slice(&body).ok();
    let mut request = Request::arrived(Target::Login, &headers);
    request.text = credentials.as_ref().and_then(|credentials| written(credentials, "email"));
    let password = credentials.as_ref().and_then(|credentials| written(credentials, "password"));
    let ttl_s = state.settings().login_ttl_s;
    exchange(&state, &connection, request, |request| {
        respond_to_login(&state.sessions, request, password.as_deref(), ttl_s)
    })
    .await
}

/// Issues tokens, and decides which of them are still valid.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    issued: AtomicU64,
    /// Rises with every revocation; tokens of an older version are refused.
    version: AtomicU64,
}

/// Claims of an access token. `usarname` is spelt as the forks spell it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    usarname: String,
    profile: String,
    id: u64,
    company_id: u64,
    token_version: u64,
    iat: u64,
    exp: u64,
}

impl Sessions {
    /// Refuses every token issued so far.
    pub(crate) fn revoke(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn issue(&self, email: &str, at: i64, ttl_s: u64) -> jsonwebtoken::errors::Result<String> {
        let iat = seconds(at);
        let claims = Claims {
            usarname: email.to_owned(),
            profile: "admin".to_owned(),
            // One id per login, or two logins within a second would share a token.
            id: self.issued.fetch_add(1, Ordering::Relaxed) + 1,
            company_id: 1,
            token_version: self.version.load(Ordering::SeqCst),
            iat,
            exp: iat.saturating_add(ttl_s),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SIGNING_KEY))
    }

    /// Whether a bearer token is valid for the send API at this time. A token not issued here is accepted as a connection's
    /// fixed token, which the forks compare with a column, unless it contains `invalid`.
    fn is_valid(&self, token: &str, at: i64) -> bool {
        if token.is_empty() || token.contains("invalid") {
            return false;
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The time of the request decides, not the library's clock.
        validation.validate_exp = false;
        match jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(SIGNING_KEY), &validation) {
            Ok(issued) => {
                issued.claims.exp > seconds(at) && issued.claims.token_version >= self.version.load(Ordering::SeqCst)
            }
            Err(_) => true,
        }
    }
}

fn respond_to_send(sessions: &Sessions, request: &Request, message: Option<&Value>) -> ProviderResponse {
    if !request.token.as_deref().is_some_and(|token| sessions.is_valid(token, request.at)) {
        return refuse(StatusCode::UNAUTHORIZED, "Acesso não permitido");
    }
    if message.is_none() {
        // The body parser fails before any AppError is made.
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error");
    }
    let Some(number) = request.number.as_deref() else {
        return refuse(StatusCode::BAD_REQUEST, "O número é obrigatório");
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse(StatusCode::BAD_REQUEST, "Invalid number format. Only numbers is allowed.");
    }
    if request.text.as_deref().unwrap_or_default().is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "body is a required field");
    }
    ProviderResponse::performed(&json!({"mensagem": "Mensagem enviada"}), "Mensagem enviada")
}

fn respond_to_login(sessions: &Sessions, request: &Request, password: Option<&str>, ttl_s: u64) -> ProviderResponse {
    let (Some(email), Some(password)) = (request.text.as_deref(), password) else {
        return refuse(StatusCode::UNAUTHORIZED, "ERR_INVALID_CREDENTIALS");
    };
    if password.is_empty() || password == "wrong" {
        return refuse(StatusCode::UNAUTHORIZED, "ERR_INVALID_CREDENTIALS");
    }
    let Ok(token) = sessions.issue(email, request.at, ttl_s) else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error");
    };
    let user = json!({
        "id": 1, "name": "Sandbox", "email": email, "profile": "admin", "companyId": 1,
        "super": false, "queues": [], "company": {"id": 1, "name": "Sandbox"},
    });
    let mut response = ProviderResponse::performed(&json!({"token": token, "user": user}), "");
    if let Ok(cookie) = HeaderValue::try_from(format!("jrt={token}; Path=/; HttpOnly")) {
        response.headers.insert(SET_COOKIE, cookie);
    }
    response.token = Some(token);
    response
}

fn refuse(status: StatusCode, error: &str) -> ProviderResponse {
    ProviderResponse::refused(status, &json!({"error": error}), error)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

/// A field as text; the forks' validators accept a JSON number for a string.
fn written(object: &Value, field: &str) -> Option<String> {
    match object.get(field)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn seconds(micros: i64) -> u64 {
    u64::try_from(micros / 1_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_760_000_000_000_000;

    #[test]
    fn a_token_is_valid_until_its_expiry_and_not_at_it() {
        let sessions = Sessions::default();
        let token = sessions.issue("ana@exemplo.test", NOON, 60).unwrap();
        assert!(sessions.is_valid(&token, NOON + 59_000_000));
        assert!(!sessions.is_valid(&token, NOON + 60_000_000));
    }

    #[test]
    fn a_revocation_refuses_the_tokens_before_it_and_not_those_after() {
        let sessions = Sessions::default();
        let before = sessions.issue("ana@exemplo.test", NOON, 60).unwrap();
        sessions.revoke();
        let after = sessions.issue("ana@exemplo.test", NOON, 60).unwrap();
        assert!(!sessions.is_valid(&before, NOON));
        assert!(sessions.is_valid(&after, NOON));
    }

    #[test]
    fn a_connections_fixed_token_is_valid_unless_it_contains_invalid() {
        let sessions = Sessions::default();
        assert!(sessions.is_valid("conexao-1", NOON));
        assert!(!sessions.is_valid("invalid-1", NOON));
        assert!(!sessions.is_valid("", NOON));
    }

    #[test]
    fn two_logins_at_the_same_moment_get_two_tokens() {
        let sessions = Sessions::default();
        let issue = || sessions.issue("ana@exemplo.test", NOON, 60).unwrap();
        assert_ne!(issue(), issue());
    }
}
