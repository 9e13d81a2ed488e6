//! Login tokens: one per account, kept until half a minute before they expire, fetched by one caller at a time.
//!
//! Owns the cache. Who comes while a login is under way waits for it and shares its end, good or bad, so a flood of
//! deliveries costs a company one login. A login sends no message: every failure here means *not sent*.

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

/// A token this close to its end is not used again.
const MARGIN_S: i64 = 30;
/// How long a token that does not say when it expires is believed.
const UNDATED_S: i64 = 600;
/// Accounts kept; beyond it the ones nobody is using are forgotten, at the price of a login.
const MAX_ACCOUNTS: usize = 10_000;

pub(crate) struct Credentials {
    pub(crate) email: String,
    pub(crate) password: SecretString,
}

/// The cache of login tokens.
#[derive(Default)]
pub(super) struct Logins {
    slots: Mutex<HashMap<LoginKey, Arc<CachedLogin>>>,
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
    /// Logins ended so far; tells those who waited that somebody did it for them.
    rounds: AtomicU64,
    last: tokio::sync::Mutex<Option<Result<LoginToken, Verdict>>>,
}

impl Logins {
    /// A token for the account: the kept one while it lasts, else a new one. `rejected` is one the server refused.
    ///
    /// # Errors
    /// The verdict on a message that could not be sent for want of a token.
    pub(super) async fn token(
        &self,
        http: &reqwest::Client,
        account: &Account,
        credentials: &Credentials,
        rejected: Option<&LoginToken>,
    ) -> Result<LoginToken, Verdict> {
        let slot = self.slot(account, credentials);
        let rounds = slot.rounds.load(Ordering::Acquire);
        let mut last = slot.last.lock().await;
        let renewed_meanwhile = slot.rounds.load(Ordering::Acquire) != rounds;
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
        slot.rounds.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    fn slot(&self, account: &Account, credentials: &Credentials) -> Arc<CachedLogin> {
        let key = LoginKey {
            company: account.company,
            base_url: account.base_url.trim_end_matches('/').to_owned(),
            email: credentials.email.clone(),
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_ACCOUNTS && !slots.contains_key(&key) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key).or_default())
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
    let answer = egress::exchange(request, MAX_BODY_BYTES).await.map_err(|error| match Verdict::from(error) {
        permanent @ Verdict::Permanent { .. } => permanent,
        // Whatever is uncertain about a login, no message was sent.
        _ => Verdict::temporary("login_unavailable"),
    })?;
    match answer.status {
        200..300 => {}
        408 | 429 | 500.. => return Err(Verdict::temporary("login_unavailable")),
        _ => return Err(Verdict::permanent("login_refused")),
    }
    let now_s = clock::now().as_second();
    answer.body.ok().and_then(|body| read_token(&body, now_s)).ok_or(Verdict::temporary("login_unreadable"))
}

/// The token in a login's answer, with the end its own claims state. Its signature is the server's business.
fn read_token(body: &[u8], now_s: i64) -> Option<LoginToken> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let token = answer.get("token")?.as_str().filter(|token| is_bearer(token))?;
    let expires_s = expiry(token).unwrap_or(now_s.saturating_add(UNDATED_S));
    Some(LoginToken { secret: SecretString::from(token), usable_until_s: expires_s.saturating_sub(MARGIN_S) })
}

/// What a header can carry.
fn is_bearer(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `exp` of a JWT (RFC 7519 §4.1.4), seconds since the epoch, perhaps with a fraction.
fn expiry(jwt: &str) -> Option<i64> {
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    // A fraction is cut off; a float saturates.
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
    fn a_token_is_used_until_half_a_minute_before_its_end() {
        assert_eq!(until(&jwt(r#"{"exp":2000}"#)), Some(1_970));
        assert_eq!(until(&jwt(r#"{"exp":2000.9}"#)), Some(1_970));
    }

    #[test]
    fn a_token_that_does_not_say_its_end_is_believed_for_ten_minutes() {
        for token in ["opaque", "a.b.c", &jwt("{}"), &jwt("7"), &jwt(r#"{"exp":"soon"}"#)] {
            assert_eq!(until(token), Some(1_570), "{token}");
        }
    }

    #[test]
    fn what_no_header_can_carry_is_no_token() {
        assert_eq!(until(""), None);
        assert_eq!(until("a b"), None);
        assert_eq!(until("a\nb"), None);
        assert!(read_token(b"{\"token\":7}", 0).is_none());
        assert!(read_token(b"<html>", 0).is_none());
    }
}
