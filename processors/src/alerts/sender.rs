//! One signed call of one receiver, at an address that a company or the operator configured.
//!
//! No redirect is followed, no byte of the response's body is read, and the egress policy checks the address once its
//! name is resolved. Neither URLs, bodies nor secrets are logged here.

use std::time::Duration;

use jiff::Timestamp;
use platform::attempt::Verdict;
use platform::egress::{self, Policy};
use platform::webhook::{ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;

use super::decide::ReceiverResponse;

const USER_AGENT: &str = concat!("Secretaria/", env!("CARGO_PKG_VERSION"));

/// Where to call, and what to sign with: one secret, or two while one is being rotated out.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    pub(super) url: Url,
    pub(super) secrets: Vec<Secret>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct WebhookRequest<'a> {
    /// The event's id: the same at every attempt.
    pub(super) id: &'a str,
    /// When this attempt is made.
    pub(super) at: Timestamp,
    /// The bytes that are signed.
    pub(super) body: &'a str,
}

pub(super) struct Sender(reqwest::Client);

impl Sender {
    /// Prepares a client that gives each call this long.
    ///
    /// # Errors
    /// If the HTTP client cannot start.
    pub(super) fn new(timeout: Duration, policy: Policy) -> Result<Self, reqwest::Error> {
        Ok(Sender(egress::restricted_client(policy).timeout(timeout).user_agent(USER_AGENT).build()?))
    }

    pub(super) async fn call(&self, receiver: &Receiver, message: WebhookRequest<'_>) -> ReceiverResponse {
        let at = message.at.as_second();
        let signatures = receiver.secrets.iter().map(|it| it.sign(message.id, at, message.body.as_bytes()));
        let request = self
            .0
            .post(receiver.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, message.id)
            .header(TIMESTAMP_HEADER, at)
            .header(SIGNATURE_HEADER, signatures.collect::<Vec<_>>().join(" "))
            .body(message.body.to_owned());
        match egress::exchange(request, 0).await {
            Ok(response) => ReceiverResponse::of_status(response.status, response.retry_after),
            Err(error) => Verdict::from(error).into(),
        }
    }
}
