//! One connection: its requests, and when it ends.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Peer;
use super::stream::PatientStream;
use crate::task::Stop;
use crate::telemetry::chain;

/// The most bytes a request's line and headers may have.
const HEADER_BYTES: usize = 64 * 1024;

/// What a connection needs to know.
pub(super) struct Connection {
    pub(super) routes: Router,
    pub(super) peer: Peer,
    pub(super) header_timeout: Duration,
    /// Whether a new connection waits for this one or another to close.
    pub(super) is_full: watch::Receiver<bool>,
    pub(super) stop: Stop,
}

/// What is known of a connection's requests.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Whether there has been one.
    has_served: Arc<AtomicBool>,
    /// Whether the latest has a body that was not read to its end.
    is_unread: Arc<AtomicBool>,
}

impl Connection {
    /// Serves until the peer leaves, a limit is passed, or the server stops and the request under way has its answer.
    pub(super) async fn serve(self, stream: TcpStream) {
        let Connection { routes, peer, header_timeout, mut is_full, stop } = self;
        let progress = Progress::default();
        let stream = PatientStream::new(stream, Arc::clone(&progress.is_unread));
        let routes = TowerToHyperService::new(routes);
        let service = {
            let (progress, is_full) = (progress.clone(), is_full.clone());
            service_fn(move |request| answer(routes.clone(), request, peer, progress.clone(), is_full.clone()))
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(HEADER_BYTES);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut is_last = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(problem) = ended {
                        tracing::debug!(error = chain(&problem), "connection ended early");
                    }
                    return;
                }
                () = stop.cancelled(), if !is_last => is_last = true,
                Ok(()) = is_full.changed(), if !is_last => {
                    // One whose first request is still on its way would be closed without an answer.
                    is_last = *is_full.borrow_and_update() && progress.has_served.load(Ordering::Relaxed);
                }
            }
            if is_last {
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    routes: TowerToHyperService<Router>,
    request: Request<Incoming>,
    peer: Peer,
    progress: Progress,
    is_full: watch::Receiver<bool>,
) -> Result<Response<Body>, Infallible> {
    progress.has_served.store(true, Ordering::Relaxed);
    let (head, incoming) = request.into_parts();
    progress.is_unread.store(!incoming.is_end_stream(), Ordering::Relaxed);
    let body = Body::new(Watched { incoming, is_unread: Arc::clone(&progress.is_unread) });
    let mut request = Request::from_parts(head, body);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = routes.call(request).await?;
    // What is left of a body would have to be read before the next request; the stream sees to it that the peer can
    // read this answer all the same.
    if progress.is_unread.load(Ordering::Relaxed) || *is_full.borrow() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// A request's body that says when it has been read to its end.
struct Watched {
    incoming: Incoming,
    is_unread: Arc<AtomicBool>,
}

impl hyper::body::Body for Watched {
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
