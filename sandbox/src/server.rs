//! The server — routes, connections, and how a connection is aborted without a byte of response.
//!
//! Promise: waiting requests never delay others (one task per connection, no lock held during a wait), and
//! `ConnectionHandle::abort` closes the socket before anything is written for the request at hand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::DefaultBodyLimit;
use axum::extract::connect_info::Connected;
use axum::routing::{get, post};
use axum::serve::{IncomingStream, Listener};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::exchange::SandboxState;
use crate::{control, gemini, webhooks, whaticket};

/// Gemini accepts requests up to 20 MB; no other request here is larger.
const MAX_BODY_BYTES: usize = 20 * 1024 * 1024;

/// Serves until `state.stop` is cancelled and the open connections have ended.
pub(crate) async fn serve(listener: TcpListener, state: Arc<SandboxState>) -> io::Result<()> {
    let stop = state.stop.clone().cancelled_owned();
    let service = routes(state).into_make_service_with_connect_info::<ConnectionHandle>();
    axum::serve(AbortableListener(listener), service).with_graceful_shutdown(stop).await
}

fn routes(state: Arc<SandboxState>) -> Router {
    Router::new()
        .route("/v1beta/models/{call}", post(gemini::generate))
        .route("/api/messages/send", post(whaticket::send))
        .route("/auth/login", post(whaticket::login))
        .route("/webhooks/{name}", post(webhooks::receive))
        .route("/livez", get(|| async { "ok" }))
        .nest("/_sandbox", control::routes())
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({"error": "no such route in the sandbox"}))) })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

/// Aborts one connection; every request on it holds a clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionHandle(Arc<AtomicBool>);

impl ConnectionHandle {
    /// From now on every write fails, so the server drops the connection and the socket closes.
    pub(crate) fn abort(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_aborted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, AbortableListener>> for ConnectionHandle {
    fn connect_info(stream: IncomingStream<'_, AbortableListener>) -> Self {
        stream.io().connection.clone()
    }
}

struct AbortableListener(TcpListener);

impl Listener for AbortableListener {
    type Io = AbortableStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (AbortableStream, Self::Addr) {
        let (stream, addr) = Listener::accept(&mut self.0).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        (AbortableStream { stream, connection: ConnectionHandle::default() }, addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A TCP stream whose writes fail once its connection is aborted.
struct AbortableStream {
    stream: TcpStream,
    connection: ConnectionHandle,
}

impl AsyncRead for AbortableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for AbortableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.connection.is_aborted() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.connection.is_aborted() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
