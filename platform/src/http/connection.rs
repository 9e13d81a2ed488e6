//! One connection: serves its requests and decides when it closes.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::stream::TimeoutStream;
use super::timer::ConnectionTimer;
use super::{Answers, Peer, ServerState};
use crate::telemetry::chain;

/// The most bytes a request's line and headers may have.
const HEADER_BYTES: usize = 64 * 1024;

pub(super) struct Connection<A> {
    pub(super) routes: A,
    pub(super) peer: Peer,
    pub(super) header_timeout: Duration,
    pub(super) state: watch::Receiver<ServerState>,
}

/// What a connection's requests share.
struct Shared<A> {
    routes: A,
    peer: Peer,
    state: watch::Receiver<ServerState>,
    /// Whether there has been a request.
    has_served: AtomicBool,
    /// Whether the latest has a body that was not read to its end.
    is_unread: Arc<AtomicBool>,
}

impl<A: Answers> Connection<A> {
    /// Serves until the peer closes the connection, a timeout passes, or the server has stopped and the current request is
    /// answered.
    pub(super) async fn serve(self, stream: TcpStream) {
        let Connection { routes, peer, header_timeout, mut state } = self;
        let shared = Arc::new(Shared {
            routes,
            peer,
            state: state.clone(),
            has_served: AtomicBool::default(),
            is_unread: Arc::default(),
        });
        let stream = TimeoutStream::new(stream, Arc::clone(&shared.is_unread));
        let service = {
            let shared = Arc::clone(&shared);
            service_fn(move |request| answer(Arc::clone(&shared), request))
        };
        let mut http = http1::Builder::new();
        http.timer(ConnectionTimer::default()).header_read_timeout(header_timeout).max_buf_size(HEADER_BYTES);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut is_last = false;
        loop {
            tokio::select! {
                // The state first, so that an answer that is written after it says `Connection: close`.
                biased;
                Ok(()) = state.changed(), if !is_last => is_last = match *state.borrow_and_update() {
                    ServerState::Open => false,
                    // A connection whose first request has not arrived yet would be closed without an answer.
                    ServerState::Full => shared.has_served.load(Ordering::Relaxed),
                    ServerState::Stopped => true,
                },
                ended = connection.as_mut() => {
                    if let Err(problem) = ended {
                        tracing::debug!(error = chain(&problem), "connection ended early");
                    }
                    return;
                }
            }
            if is_last {
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer<A: Answers>(shared: Arc<Shared<A>>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    // For later requests `serve` has already called `graceful_shutdown`, which adds `Connection: close`.
    let is_first = !shared.has_served.swap(true, Ordering::Relaxed);
    let (head, incoming) = request.into_parts();
    shared.is_unread.store(!incoming.is_end_stream(), Ordering::Relaxed);
    let body = Body::new(TrackedBody { incoming, is_unread: Arc::clone(&shared.is_unread) });
    let mut request = Request::from_parts(head, body);
    request.extensions_mut().insert(ConnectInfo(shared.peer));
    let mut response = shared.routes.answer(request).await;
    // The rest of a body would have to be read before the next request, so the connection closes; the stream lingers, so
    // that the peer can still read this answer.
    let closes = is_first && *shared.state.borrow() == ServerState::Full;
    if closes || shared.is_unread.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// A request's body that notes when it has been read to its end.
struct TrackedBody {
    incoming: Incoming,
    is_unread: Arc<AtomicBool>,
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.incoming.is_end_stream() {
            self.is_unread.store(false, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
