//! Login tokens: one per account, kept until half a minute before they expire, fetched by one caller at a time.
//!
//! Owns the cache. A caller that arrives while a login is under way waits for it and gets its result, a token or a
//! failure, so many deliveries at once cost a company one login. A login sends no message: every failure here means
//! *not sent*.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::CompanyId;
use platform::attempt::Verdict;
use platform::{clock, egress};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{Account, MAX_BODY_BYTES, url};

/// A token this close to its expiry is not used any more.
const MARGIN_S: i64 = 30;
/// How long a token without an expiry is used.
const UNDATED_S: i64 = 600;
/// Accounts in the cache at most; beyond that, those without a caller are removed, and cost another login.
const MAX_ACCOUNTS: usize = 10_000;

pub(crate) struct Credentials {
    pub(crate) email: String,
    pub(crate) password: SecretString,
}

/// The cache of login tokens.
#[derive(Default)]
pub(super) struct Logins {
    cached: Mutex<HashMap<LoginKey, Arc<CachedLogin>>>,
}

/// A bearer token and how long it may be used.
#[derive(Clone)]
pub(super) struct LoginToken {
    pub(super) secret: SecretString,
    usable_until_s: i64,
}

#[derive(PartialEq, Eq, Hash)]
struct LoginKey {
    company: CompanyId,
    base_url: String,
    email: String,
}

#[derive(Default)]
struct CachedLogin {
    /// Logins completed so far: shows a caller that waited whether another one logged in meanwhile.
    completed: AtomicU64,
    last: tokio::sync::Mutex<Option<Result<LoginToken, Verdict>>>,
}

impl Logins {
    /// A token for the account: the cached one while it is valid, else a new one. `rejected` is one that the server
    /// refused.
    ///
    /// # Errors
    /// The verdict on a message that could not be sent without a token.
    pub(super) async fn token(
        &self,
        http: &reqwest::Client,
        account: &Account,
        credentials: &Credentials,
        rejected: Option<&LoginToken>,
    ) -> Result<LoginToken, Verdict> {
        let login = self.login(account, credentials);
        let completed = login.completed.load(Ordering::Acquire);
        let mut last = login.last.lock().await;
        let renewed_meanwhile = login.completed.load(Ordering::Acquire) != completed;
        match &*last {
            Some(Ok(token)) if is_rejected(token, rejected) => {}
            Some(Ok(token)) if renewed_meanwhile || clock::now().as_second() < token.usable_until_s => {
                return Ok(token.clone());
            }
            Some(Err(verdict)) if renewed_meanwhile => return Err(*verdict),
            _ => {}
        }
        let outcome = log_in(http, account, credentials).await;
        *last = Some(outcome.clone());
        login.completed.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    fn login(&self, account: &Account, credentials: &Credentials) -> Arc<CachedLogin> {
        let key = LoginKey {
            company: account.company,
            base_url: account.base_url.trim_end_matches('/').to_owned(),
            email: credentials.email.clone(),
        };
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= MAX_ACCOUNTS && !cached.contains_key(&key) {
            cached.retain(|_, login| Arc::strong_count(login) > 1);
        }
        Arc::clone(cached.entry(key).or_default())
    }
}

fn is_rejected(token: &LoginToken, rejected: Option<&LoginToken>) -> bool {
    rejected.is_some_and(|rejected| rejected.secret.expose_secret() == token.secret.expose_secret())
}

async fn log_in(http: &reqwest::Client, account: &Account, credentials: &Credentials) -> Result<LoginToken, Verdict> {
    let body = serde_json::json!({
        "email": credentials.email,
        "password": credentials.password.expose_secret(),
    });
    let request = http.post(url(account, "/auth/login")?).json(&body);
    let response = egress::exchange(request, MAX_BODY_BYTES).await.map_err(|error| match Verdict::from(error) {
        permanent @ Verdict::Permanent { .. } => permanent,
        // Even if the login's result is uncertain, no message was sent.
        _ => Verdict::temporary("login_unavailable"),
    })?;
    match response.status {
        200..300 => {}
        408 | 429 | 500.. => return Err(Verdict::temporary("login_unavailable")),
        _ => return Err(Verdict::permanent("login_refused")),
    }
    let now_s = clock::now().as_second();
    response.body.ok().and_then(|body| read_token(&body, now_s)).ok_or(Verdict::temporary("login_unreadable"))
}

/// The token of a login's response, with the expiry in its claims. Its signature is for the server to check.
fn read_token(body: &[u8], now_s: i64) -> Option<LoginToken> {
    let response: Value = serde_json::from_slice(body).ok()?;
    let token = response.get("token")?.as_str().filter(|token| is_bearer(token))?;
    let expires_s = expiry(token).unwrap_or(now_s.saturating_add(UNDATED_S));
    Some(LoginToken { secret: SecretString::from(token), usable_until_s: expires_s.saturating_sub(MARGIN_S) })
}

/// Whether a header can hold it.
fn is_bearer(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `exp` of a JWT (RFC 7519 §4.1.4), seconds since the epoch, perhaps with a fraction.
fn expiry(jwt: &str) -> Option<i64> {
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    // A fraction is cut off, and the cast saturates.
    exp.as_i64().or_else(|| exp.as_f64().map(|seconds| seconds as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn until(token: &str) -> Option<i64> {
        let body = serde_json::json!({"token": token, "user": {}}).to_string();
        read_token(body.as_bytes(), 1_000).map(|token| token.usable_until_s)
    }

    #[test]
    fn a_token_is_used_until_half_a_minute_before_it_expires() {
        assert_eq!(until(&jwt(r#"{"exp":2000}"#)), Some(1_970));
        assert_eq!(until(&jwt(r#"{"exp":2000.9}"#)), Some(1_970));
    }

    #[test]
    fn a_token_without_an_expiry_is_used_for_ten_minutes() {
        for token in ["opaque", "a.b.c", &jwt("{}"), &jwt("7"), &jwt(r#"{"exp":"soon"}"#)] {
            assert_eq!(until(token), Some(1_570), "{token}");
        }
    }

    #[test]
    fn what_a_header_cannot_hold_is_no_token() {
        assert_eq!(until(""), None);
        assert_eq!(until("a b"), None);
        assert_eq!(until("a\nb"), None);
        assert!(read_token(b"{\"token\":7}", 0).is_none());
        assert!(read_token(b"<html>", 0).is_none());
    }
}
