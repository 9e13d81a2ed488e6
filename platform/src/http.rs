//! The HTTP server: one listener, bound before anything else starts, that lets requests end before it does.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::secret::SecretText;
use crate::settings;
use crate::task::Stop;

/// Settings `http.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen: `host:port`.
    pub listen: SocketAddr,
    /// How long requests under way may go on after a stop, in milliseconds.
    pub drain_ms: u64,
    /// Opens `/metrics` to peers that are not on this machine, as a bearer token. Empty: to nobody.
    pub metrics_token: SecretText,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8_080)),
            drain_ms: 10_000,
            metrics_token: SecretText::default(),
        }
    }
}

impl Config {
    /// Checks what can be checked without binding.
    ///
    /// # Errors
    /// Names the setting that makes no sense.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if self.drain_ms > 120_000 {
            return Err(settings::Error::senseless("http.drain_ms", "must be at most 120000"));
        }
        Ok(())
    }
}

/// Serves until stopped; then accepts nothing new and lets requests end for `drain_ms`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, routes: Router, drain_ms: u64, stop: Stop) -> std::io::Result<()> {
    let service = routes.into_make_service_with_connect_info::<Peer>();
    let stopped = stop.clone();
    let server =
        axum::serve(WithoutDelay(listener), service).with_graceful_shutdown(async move { stopped.cancelled().await });
    tokio::select! {
        ended = server => ended,
        () = async { stop.cancelled().await; tokio::time::sleep(Duration::from_millis(drain_ms)).await } => {
            tracing::warn!("stopped with requests under way");
            Ok(())
        }
    }
}

/// Sends small answers at once instead of waiting for more to send.
struct WithoutDelay(TcpListener);

impl axum::serve::Listener for WithoutDelay {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, peer) = axum::serve::Listener::accept(&mut self.0).await;
        // Only latency is lost if this fails.
        let _ = stream.set_nodelay(true);
        (stream, peer)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, WithoutDelay>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, WithoutDelay>) -> Self {
        Peer(*stream.remote_addr())
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The extractor of a peer.
pub type PeerInfo = ConnectInfo<Peer>;
