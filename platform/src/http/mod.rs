//! The HTTP server: one listener, bound before anything else starts, with graceful shutdown.
//!
//! HTTP/1.1 only. Every wait for a peer has a limit: for a request's headers, for space in its socket, for the rest of an
//! unread body. Open connections are counted; above `http.connections` a new one waits in the kernel's queue, and idle
//! keep-alive connections are closed to make space for it.

mod connection;
pub mod openapi;
pub mod problem;
pub mod request;
mod stream;
mod timer;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::serve::Listener;
use metrics::gauge;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::secret::SecretText;
use crate::task::{self, Stop};
use crate::{metric, settings};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen: `host:port`.
    pub listen: SocketAddr,
    /// Most connections open at once.
    pub connections: usize,
    /// How long a connection may take until the headers of its next request are complete, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long open requests may take after a stop, in milliseconds.
    pub drain_ms: u64,
    /// The bearer token with which callers on other machines may read `/metrics`. Empty: they may not.
    pub metrics_token: SecretText,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8_080)),
            // Below the 1024 descriptors that many systems give a process, with descriptors left for the broker and Postgres.
            connections: 768,
            header_timeout_ms: 30_000,
            drain_ms: 10_000,
            metrics_token: SecretText::default(),
        }
    }
}

impl Config {
    /// Checks what can be checked without binding.
    ///
    /// # Errors
    /// Names the invalid setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if !(1..=65_536).contains(&self.connections) {
            return Err(settings::Error::invalid("http.connections", "must be between 1 and 65536"));
        }
        if !(100..=600_000).contains(&self.header_timeout_ms) {
            return Err(settings::Error::invalid("http.header_timeout_ms", "must be between 100 and 600000"));
        }
        if self.drain_ms > 120_000 {
            return Err(settings::Error::invalid("http.drain_ms", "must be at most 120000"));
        }
        Ok(())
    }
}

/// Answers requests: a router, or something around one.
pub trait Answers: Clone + Send + Sync + 'static {
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send;
}

impl Answers for Router {
    async fn answer(&self, request: Request) -> Response {
        match self.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Serves until stopped; then accepts no connection and lets open requests complete for `drain_ms`.
pub async fn serve(mut listener: TcpListener, routes: impl Answers, config: &Config, stop: Stop) {
    let limit = ConnectionLimit {
        permits: Arc::new(Semaphore::new(config.connections)),
        state: watch::Sender::new(ServerState::Open),
    };
    let open = TaskTracker::new();
    loop {
        let accepted = async {
            let (stream, peer) = Listener::accept(&mut listener).await;
            (stream, peer, limit.permit().await)
        };
        let (stream, peer, permit) = tokio::select! {
            () = stop.cancelled() => break,
            it = accepted => it,
        };
        // Small answers are sent at once instead of waiting for more to send. Only latency is lost if this fails.
        let _ = stream.set_nodelay(true);
        let connection = connection::Connection {
            routes: routes.clone(),
            peer: Peer(peer),
            header_timeout: Duration::from_millis(config.header_timeout_ms),
            state: limit.state.subscribe(),
        };
        task::spawn_connection(open.track_future(async move {
            gauge!(metric::HTTP_CONNECTIONS).increment(1.0);
            connection.serve(stream).await;
            gauge!(metric::HTTP_CONNECTIONS).decrement(1.0);
            drop(permit);
        }));
    }
    drop(listener);
    limit.state.send_replace(ServerState::Stopped);
    open.close();
    if tokio::time::timeout(Duration::from_millis(config.drain_ms), open.wait()).await.is_err() {
        tracing::warn!("stopped before all open requests were answered");
    }
}

/// Bounds the number of open connections.
struct ConnectionLimit {
    permits: Arc<Semaphore>,
    state: watch::Sender<ServerState>,
}

/// The state of the server, as connections see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    Open,
    /// A new connection waits for another to close.
    Full,
    /// Nothing new is accepted.
    Stopped,
}

impl ConnectionLimit {
    /// Waits until one more may be open. `None` cannot occur: the semaphore is never closed.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        self.state.send_replace(ServerState::Full);
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        self.state.send_replace(ServerState::Open);
        permit
    }
}

/// The remote address of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The extractor of [`Peer`].
pub type PeerInfo = ConnectInfo<Peer>;
