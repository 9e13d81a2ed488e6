//! One signed call of one receiver, wherever a stranger has told us to call, and nowhere else.
//!
//! Promises: no redirect is followed, no proxy asked, no byte of the answer's body read; every address is looked at
//! after its name is resolved and before it is connected to, so that a name cannot lead inward later. What a public
//! address forwards to is out of our sight. Neither URLs, bodies nor secrets are logged here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use platform::outward::Reach;
use platform::webhook::{ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER};
use platform::{clock, queue};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};

use super::verdict::{Class, Verdict};

/// To a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("Secretaria/", env!("CARGO_PKG_VERSION"));

/// Where to call, and what to sign with: one secret, or two while one is being rotated out.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    pub(super) url: Url,
    pub(super) secrets: Vec<Secret>,
}

/// What is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// The event's id: the same at every attempt.
    pub(super) id: &'a str,
    /// When this attempt is made.
    pub(super) at: Timestamp,
    /// The bytes that are signed.
    pub(super) body: &'a str,
}

/// A URL that may be called, as far as it can be told before its name is resolved.
pub(super) fn address(url: &str, reach: Reach) -> Result<Url, Class> {
    let url = Url::parse(url).map_err(|_| Class::BadAddress)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Class::BadAddress);
    }
    // The host as it will be connected to, not as it was written: 0x7f.1 is 127.0.0.1 by now.
    let host = url.host_str().ok_or(Class::BadAddress)?;
    if reach.admits_host(url.scheme(), host) { Ok(url) } else { Err(Class::ForbiddenAddress) }
}

/// Calls receivers.
pub(super) struct Sender(reqwest::Client);

impl Sender {
    /// Prepares a client that gives each call this long.
    ///
    /// # Errors
    /// If the HTTP client cannot start.
    pub(super) fn new(timeout: Duration, reach: Reach) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            // The schedule decides when a call is made again.
            .retry(reqwest::retry::never())
            // A proxy would resolve names itself, out of our sight.
            .no_proxy()
            .dns_resolver(Resolver(reach))
            .user_agent(USER_AGENT)
            .build()?;
        Ok(Sender(client))
    }

    /// Makes one call.
    pub(super) async fn call(&self, receiver: &Receiver, call: Call<'_>) -> Verdict {
        let at = call.at.as_second();
        let signatures = receiver.secrets.iter().map(|it| it.sign(call.id, at, call.body.as_bytes()));
        let request = self
            .0
            .post(receiver.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, call.id)
            .header(TIMESTAMP_HEADER, at)
            .header(SIGNATURE_HEADER, signatures.collect::<Vec<_>>().join(" "))
            .body(call.body.to_owned());
        match request.send().await {
            Ok(answer) => {
                let retry_after = answer
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|it| queue::retry_after(it.to_str().ok()?, clock::now()));
                Verdict::of_answer(answer.status().as_u16(), retry_after)
            }
            Err(problem) => of_transport(&problem),
        }
    }
}

/// Judges a call that gave no status line.
fn of_transport(problem: &reqwest::Error) -> Verdict {
    match () {
        () if problem.is_builder() => Verdict::never(Class::BadAddress),
        () if is_forbidden(problem) => Verdict::never(Class::ForbiddenAddress),
        // Name, connection and TLS come before the first byte of the request.
        () if problem.is_connect() => Verdict::again(Class::Unreachable),
        () if problem.is_timeout() => Verdict::again(Class::Timeout),
        () => Verdict::again(Class::ConnectionLost),
    }
}

fn is_forbidden(problem: &reqwest::Error) -> bool {
    let first: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(problem);
    std::iter::successors(first, |it| it.source()).any(|it| it.is::<Forbidden>())
}

/// Every address of a name is one where we do not go.
#[derive(Debug, thiserror::Error)]
#[error("name leads to no public address")]
struct Forbidden;

/// Resolves names to those of their addresses that may be called: connections are made to what comes from here.
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            let admitted: Vec<SocketAddr> = found.into_iter().filter(|it| reach.admits(it.ip())).collect();
            if admitted.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}
