//! Whaticket's send API: one attempt to send one message, and the verdict on it.
//!
//! The message is written to the network at most once, except that a refused login token is renewed once and the
//! message sent again, which is safe because the server checks the token before anything else. What may have been
//! performed is *Unknown*, never *Temporary*. Neither texts, numbers nor secrets are logged here.

mod login;
mod verdict;

#[cfg(test)]
mod tests;

use std::time::Duration;

use domain::{CompanyId, MessageId};
use platform::attempt::Verdict;
use platform::egress::{self, Response};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

pub(crate) use login::Credentials;
pub(crate) use verdict::{CIRCUIT_OPEN, health};

use login::{LoginToken, Logins};
use verdict::classify;

/// Responses are one line of JSON; more is not read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Below the five seconds after which Node closes an idle connection: a request must not meet a closing one.
const IDLE: Duration = Duration::from_secs(4);

pub(crate) struct Account {
    pub(crate) company: CompanyId,
    /// The URL of its backend, without `/api`.
    pub(crate) base_url: String,
    pub(crate) auth: Auth,
}

/// How requests authenticate.
pub(crate) enum Auth {
    /// The connection's own token.
    Token(SecretString),
    /// A user of the panel.
    Login(Credentials),
}

/// One message to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendRequest<'a> {
    /// Sent in a header with the attempt, so that the provider's log can be matched with ours.
    pub(crate) message_id: MessageId,
    /// Which attempt, from 1.
    pub(crate) attempt: u32,
    /// Where to, as the provider reported it: digits, or an id with `@`.
    pub(crate) number: &'a str,
    pub(crate) body: &'a str,
    pub(crate) traceparent: Option<&'a str>,
}

/// A client for every company's Whaticket; one per process, so that logins and connections are shared.
pub(crate) struct Client {
    http: reqwest::Client,
    logins: Logins,
}

impl Client {
    /// A client whose requests may each take `timeout`, to the end of the response. Makes no request.
    ///
    /// # Errors
    /// If the HTTP client cannot start.
    pub(crate) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = egress::client().timeout(timeout).pool_idle_timeout(IDLE).build()?;
        Ok(Client { http, logins: Logins::default() })
    }

    /// Makes one attempt: one request, or with a login at most four (login and send, and both again).
    ///
    /// If the future is dropped after its first poll, it is unknown whether the message was sent.
    pub(crate) async fn send(&self, account: &Account, message: &SendRequest<'_>) -> Verdict {
        let outcome = match &account.auth {
            Auth::Token(token) => self.post(account, message, token).await,
            Auth::Login(credentials) => self.post_logged_in(account, message, credentials).await,
        };
        outcome.map_or_else(|verdict| verdict, |it| classify(it.status, it.retry_after, it.body.as_deref().ok()))
    }

    async fn post_logged_in(
        &self,
        account: &Account,
        message: &SendRequest<'_>,
        credentials: &Credentials,
    ) -> Result<Response, Verdict> {
        let token = self.token(account, credentials, None).await?;
        let response = self.post(account, message, &token.secret).await?;
        if !verdict::refuses_token(response.status, response.body.as_deref().ok()) {
            return Ok(response);
        }
        let renewed = self.token(account, credentials, Some(&token)).await?;
        self.post(account, message, &renewed.secret).await
    }

    async fn token(
        &self,
        account: &Account,
        credentials: &Credentials,
        rejected: Option<&LoginToken>,
    ) -> Result<LoginToken, Verdict> {
        self.logins.token(&self.http, account, credentials, rejected).await
    }

    async fn post(
        &self,
        account: &Account,
        message: &SendRequest<'_>,
        token: &SecretString,
    ) -> Result<Response, Verdict> {
        const DELIVERY: HeaderName = HeaderName::from_static("x-secretaria-delivery");
        let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())) else {
            return Err(Verdict::permanent("bad_token"));
        };
        bearer.set_sensitive(true);
        let request = self
            .http
            .post(url(account, "/api/messages/send")?)
            .header(AUTHORIZATION, bearer)
            .header(DELIVERY, format!("{}:{}", message.message_id, message.attempt))
            .json(&Body { number: message.number, body: message.body });
        Ok(egress::exchange(egress::traced(request, message.traceparent), MAX_BODY_BYTES).await?)
    }
}

fn url(account: &Account, path: &str) -> Result<Url, Verdict> {
    egress::endpoint(&account.base_url, path).ok_or(Verdict::permanent("bad_address"))
}

#[derive(Serialize)]
struct Body<'a> {
    number: &'a str,
    body: &'a str,
}
