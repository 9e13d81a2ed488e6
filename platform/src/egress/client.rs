//! One HTTP exchange, and why there was none.
//!
//! Promises: no redirect is followed, nothing is repeated, no more of a body is read than the caller allows, and no error
//! keeps a URL. [`TransportError::Timeout`] and [`TransportError::ConnectionLost`] leave open whether the request
//! arrived; every other error comes before its first byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{ClientBuilder, RequestBuilder, Url};

use super::Policy;
use crate::{clock, queue};

/// Until a connection is established, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for an address that a company names.
const RESTRICTED_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for [`exchange`], without a limit for the whole exchange: the caller sets one.
pub fn client() -> ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        // The caller decides about retries: one made here without its knowledge could send a message twice.
        .retry(reqwest::retry::never())
}

/// A client for addresses that companies name. Each address is checked after its name is resolved and before it is
/// connected to, so that a name cannot lead to an internal machine later.
pub fn restricted_client(policy: Policy) -> ClientBuilder {
    // A proxy would resolve names itself, unchecked.
    client().connect_timeout(RESTRICTED_CONNECT_TIMEOUT).no_proxy().dns_resolver(Resolver(policy))
}

/// A URL below a base URL; nothing unless the base is `http` or `https` without query and fragment, which would swallow
/// the path.
pub fn endpoint(base_url: &str, path: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}{path}", base_url.trim_end_matches('/'))).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    is_plain.then_some(url)
}

/// Adds the `traceparent` header, if there is one.
pub fn traced(request: RequestBuilder, traceparent: Option<&str>) -> RequestBuilder {
    match traceparent.and_then(|it| HeaderValue::from_str(it).ok()) {
        Some(traceparent) => request.header("traceparent", traceparent),
        None => request,
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// The wait that `Retry-After` asks for.
    pub retry_after: Option<Duration>,
    /// The body; empty if none was asked for.
    pub body: Result<Bytes, BodyError>,
}

/// Why a body is missing although its status line came.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the caller allows.
    #[error("body is too large")]
    TooLarge,
    /// It did not arrive completely.
    #[error(transparent)]
    Transport(TransportError),
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The request cannot be made.
    #[error("address cannot be called")]
    BadAddress,
    /// The policy allows none of the name's addresses.
    #[error("name resolves to no allowed address")]
    ForbiddenAddress,
    /// No connection: name, TCP or TLS.
    #[error("no connection")]
    Unreachable(#[source] reqwest::Error),
    /// No response in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection was closed before the response was complete.
    #[error("connection lost")]
    ConnectionLost(#[source] reqwest::Error),
}

impl TransportError {
    /// One of a fixed set of names, for metrics and rows.
    pub fn class(&self) -> &'static str {
        match self {
            TransportError::BadAddress => "bad_address",
            TransportError::ForbiddenAddress => "forbidden_address",
            TransportError::Unreachable(_) => "unreachable",
            TransportError::Timeout => "timeout",
            TransportError::ConnectionLost(_) => "connection_lost",
        }
    }
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        match () {
            () if error.is_builder() => TransportError::BadAddress,
            () if is_forbidden(&error) => TransportError::ForbiddenAddress,
            () if error.is_connect() => TransportError::Unreachable(error),
            () if error.is_timeout() => TransportError::Timeout,
            () => TransportError::ConnectionLost(error),
        }
    }
}

fn is_forbidden(error: &reqwest::Error) -> bool {
    let first: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    std::iter::successors(first, |it| it.source()).any(|it| it.is::<Forbidden>())
}

/// Makes one request and reads at most `most_body_bytes` of the response's body; with 0, none.
///
/// # Errors
/// If there is no status line.
pub async fn exchange(request: RequestBuilder, most_body_bytes: usize) -> Result<Response, TransportError> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let asked = response.headers().get(RETRY_AFTER);
    let retry_after = asked.and_then(|it| queue::retry_after(it.to_str().ok()?, clock::now()));
    let body = if most_body_bytes == 0 { Ok(Bytes::new()) } else { body(response, most_body_bytes).await };
    Ok(Response { status, retry_after, body })
}

async fn body(mut response: reqwest::Response, most_bytes: usize) -> Result<Bytes, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|it| BodyError::Transport(it.into()))? {
        if body.len() + chunk.len() > most_bytes {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// The policy allows no address of a name.
#[derive(Debug, thiserror::Error)]
#[error("no address of the name is allowed")]
struct Forbidden;

/// Resolves names to those of their addresses that the policy allows.
struct Resolver(Policy);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|it| policy.allows(it.ip())).collect();
            if allowed.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
