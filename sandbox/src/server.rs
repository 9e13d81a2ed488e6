//! The listening side — routes, connections, and how a connection is cut without a byte of answer.
//!
//! Promise: waiting requests never hold others up (one task per connection, no shared locks across a wait), and
//! `Line::cut` closes the socket before anything is written for the request at hand.

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

use crate::exchange::Desk;
use crate::{control, gemini, webhooks, whaticket};

/// Gemini takes requests up to 20 MB; nothing here is larger.
const MAX_BODY_BYTES: usize = 20 * 1024 * 1024;

/// Serves until the desk is told to stop and the open connections have ended.
pub(crate) async fn serve(listener: TcpListener, desk: Arc<Desk>) -> io::Result<()> {
    let stop = desk.stop.clone().cancelled_owned();
    let service = routes(desk).into_make_service_with_connect_info::<Line>();
    axum::serve(Switchboard(listener), service).with_graceful_shutdown(stop).await
}

fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1beta/models/{call}", post(gemini::generate))
        .route("/api/messages/send", post(whaticket::send))
        .route("/auth/login", post(whaticket::login))
        .route("/webhooks/{name}", post(webhooks::receive))
        .route("/livez", get(|| async { "ok" }))
        .nest("/_sandbox", control::routes())
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({"error": "no such route in the sandbox"}))) })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(desk)
}

/// One connection's switch; every request on it holds a clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Arc<AtomicBool>);

impl Line {
    /// From now on every write fails, so the server gives the connection up and the socket closes.
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, Switchboard>> for Line {
    fn connect_info(stream: IncomingStream<'_, Switchboard>) -> Self {
        stream.io().line.clone()
    }
}

struct Switchboard(TcpListener);

impl Listener for Switchboard {
    type Io = Wire;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Wire, Self::Addr) {
        let (stream, addr) = Listener::accept(&mut self.0).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the connection keeps its delay");
        }
        (Wire { stream, line: Line::default() }, addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A TCP stream that stops writing once its line is cut.
struct Wire {
    stream: TcpStream,
    line: Line,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.line.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.line.is_cut() {
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
