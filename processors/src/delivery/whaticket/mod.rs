//! Whaticket's send API: one attempt to hand over one message, and the verdict on it.
//!
//! Promises: the message is written to the network at most once, except that a refused login token is renewed once and
//! the message sent again, which is safe because the token is looked at before anything else. What may have been
//! performed is *Unknown*, never *Temporary*. Neither texts, numbers nor secrets are logged here.

mod login;
mod verdict;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use domain::{CompanyId, MessageId};
use platform::{clock, queue};
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

pub(crate) use login::Credentials;
pub(crate) use verdict::{CIRCUIT_OPEN, Verdict, classify};

use login::{Logins, Token};

/// Answers are one line of JSON; more is not read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Below the five seconds after which Node closes an idle connection: a request must not meet a closing one.
const IDLE: Duration = Duration::from_secs(4);
/// To a connection, TLS included: nothing is lost yet, so there is no reason to be patient.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A company's Whaticket.
pub(crate) struct Account {
    /// Whose.
    pub(crate) company: CompanyId,
    /// Where its backend answers, without `/api`.
    pub(crate) base_url: String,
    /// How we show who we are.
    pub(crate) auth: Auth,
}

/// The two ways in.
pub(crate) enum Auth {
    /// The connection's own token.
    Token(SecretString),
    /// A user of the panel.
    Login(Credentials),
}

/// One message to be handed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter<'a> {
    /// Which message; with the attempt it lets the provider's log be matched with ours.
    pub(crate) message_id: MessageId,
    /// Which attempt, from 1.
    pub(crate) attempt: u32,
    /// Where to, as the provider reported it: digits, or an id with `@`.
    pub(crate) number: &'a str,
    /// The text.
    pub(crate) body: &'a str,
    /// The trace it belongs to.
    pub(crate) traceparent: Option<&'a str>,
}

/// A client for every company's Whaticket; share it, so that logins and connections are shared.
pub(crate) struct Client {
    http: Http,
    logins: Logins,
}

impl Client {
    /// Prepares a client that gives each request this long, to the end of its answer; nothing is called yet.
    ///
    /// # Errors
    /// If the HTTP client cannot start.
    pub(crate) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            // A repeat the verdict does not know of would be a message twice.
            .retry(reqwest::retry::never())
            .build()?;
        Ok(Client { http: Http(http), logins: Logins::default() })
    }

    /// Makes one attempt: one request, or, where tokens come from a login, at most four (login and send, and both again).
    ///
    /// Dropping the future after its first poll leaves the outcome unknown.
    pub(crate) async fn send(&self, account: &Account, letter: &Letter<'_>) -> Verdict {
        let outcome = match &account.auth {
            Auth::Token(token) => self.hand_over(account, letter, token).await,
            Auth::Login(credentials) => self.hand_over_logged_in(account, letter, credentials).await,
        };
        outcome.map_or_else(|verdict| verdict, |answer| answer.verdict())
    }

    async fn hand_over_logged_in(
        &self,
        account: &Account,
        letter: &Letter<'_>,
        credentials: &Credentials,
    ) -> Result<Answer, Verdict> {
        let token = self.token(account, credentials, None).await?;
        let answer = self.hand_over(account, letter, &token.secret).await?;
        if !verdict::refuses_token(answer.status, answer.body.as_deref()) {
            return Ok(answer);
        }
        let renewed = self.token(account, credentials, Some(&token)).await?;
        self.hand_over(account, letter, &renewed.secret).await
    }

    async fn token(
        &self,
        account: &Account,
        credentials: &Credentials,
        rejected: Option<&Token>,
    ) -> Result<Token, Verdict> {
        self.logins.token(&self.http, account, credentials, rejected).await
    }

    /// `POST {base}/api/messages/send`.
    async fn hand_over(&self, account: &Account, letter: &Letter<'_>, token: &SecretString) -> Result<Answer, Verdict> {
        const DELIVERY: HeaderName = HeaderName::from_static("x-secretaria-delivery");
        let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())) else {
            return Err(Verdict::Permanent { class: "bad_token" });
        };
        bearer.set_sensitive(true);
        let mut request = self
            .http
            .post(account, "/api/messages/send")?
            .header(AUTHORIZATION, bearer)
            .header(DELIVERY, format!("{}:{}", letter.message_id, letter.attempt))
            .json(&Message { number: letter.number, body: letter.body });
        if let Some(trace) = letter.traceparent.and_then(|trace| HeaderValue::from_str(trace).ok()) {
            request = request.header("traceparent", trace);
        }
        self.http.exchange(request).await.map_err(|error| verdict::of_transport(&error))
    }
}

#[derive(Serialize)]
struct Message<'a> {
    number: &'a str,
    body: &'a str,
}

struct Http(reqwest::Client);

/// What came back, as far as it did.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    /// None if the connection ended before all of it was there, or it is larger than any answer.
    body: Option<Bytes>,
}

impl Answer {
    fn verdict(&self) -> Verdict {
        classify(self.status, self.retry_after, self.body.as_deref())
    }
}

impl Http {
    fn post(&self, account: &Account, path: &str) -> Result<RequestBuilder, Verdict> {
        let base = account.base_url.trim_end_matches('/');
        let url = reqwest::Url::parse(&format!("{base}{path}")).ok().filter(|url| {
            // A query or fragment in the base would swallow the path.
            matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
        });
        url.map(|url| self.0.post(url)).ok_or(Verdict::Permanent { class: "bad_address" })
    }

    /// Errors only before the status line; a body that does not come whole is part of the answer.
    async fn exchange(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|it| queue::retry_after(it.to_str().ok()?, clock::now()));
        let mut body = Some(Vec::new());
        while let Some(read) = &mut body {
            match response.chunk().await {
                Ok(Some(chunk)) if read.len() + chunk.len() <= MAX_BODY_BYTES => read.extend_from_slice(&chunk),
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => body = None,
            }
        }
        Ok(Answer { status, retry_after, body: body.map(Bytes::from) })
    }
}
