//! What every request gets, whichever route answers it: an id, and a problem document in place of a bare error.
//!
//! The id is the caller's `X-Request-Id` if it is a sane one, else the trace of its `traceparent`, else one of ours. It
//! is in the answer's `X-Request-Id`, in problem documents, and in the log as `correlation_id`. Handlers find it in the
//! request's extensions, and in its `X-Request-Id`, which then holds nothing else.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use crate::clock;
use crate::problem::{self, Problem};
use crate::trace::Traceparent;

/// The header, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most letters of an id that a caller gives.
pub const LONGEST_ID: usize = 64;

/// A request's id: 1 to 64 ASCII letters, digits, and `-`, `_`, `.` or `:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id as documents show it.
    pub(crate) fn example() -> Self {
        RequestId("5f2c9a41d07be836-17".into())
    }

    /// What the caller says it is: the one sane `X-Request-Id`, or else its trace.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(REQUEST_ID).iter();
        if let (Some(value), None) = (values.next(), values.next())
            && let Some(id) = value.to_str().ok().filter(|it| is_sane(it))
        {
            return Some(RequestId(id.into()));
        }
        let trace = headers.get("traceparent").and_then(|it| Traceparent::parse(it.to_str().ok()?))?;
        Some(RequestId(trace.correlation_id().into()))
    }
}

fn is_sane(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len())
        && id.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.' | b':'))
}

/// Makes the ids of one process: a prefix that no other process has, and a number.
#[derive(Debug, Clone)]
pub struct RequestIds(Arc<Series>);

#[derive(Debug)]
struct Series {
    prefix: String,
    last: AtomicU64,
}

impl RequestIds {
    /// Ids that begin with these bytes as hex digits. Chance comes from outside.
    pub fn of_process(bytes: [u8; 8]) -> Self {
        let mut prefix = String::with_capacity(17);
        for byte in bytes {
            // Writing to a `String` does not fail.
            let _ = write!(prefix, "{byte:02x}");
        }
        prefix.push('-');
        RequestIds(Arc::new(Series { prefix, last: AtomicU64::new(0) }))
    }

    fn next(&self) -> RequestId {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        RequestId(format!("{}{number}", self.0.prefix).into())
    }
}

/// Gives every request of those routes an id, and every error of theirs the shape of a problem. Goes around all routes,
/// because what no route answers gets the same.
pub fn answered_in_one_shape(routes: Router, ids: RequestIds) -> Router {
    routes.layer(from_fn_with_state(ids, answer))
}

async fn answer(State(ids): State<RequestIds>, mut request: Request, next: Next) -> Response {
    let began = clock::instant();
    let id = RequestId::given(request.headers()).unwrap_or_else(|| ids.next());
    // Whatever has a route leaves a line of its own, or is a probe and leaves none.
    let unrouted = request.extensions().get::<MatchedPath>().is_none().then(|| request.method().clone());
    let value = HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static(""));
    request.headers_mut().insert(REQUEST_ID, value.clone());
    request.extensions_mut().insert(id.clone());

    let mut response = in_one_shape(next.run(request).await, &id);

    response.headers_mut().insert(REQUEST_ID, value);
    if let Some(method) = unrouted {
        tracing::info!(
            correlation_id = id.as_str(),
            method = method.as_str(),
            status = response.status().as_u16(),
            duration_ms = began.elapsed().as_micros() as f64 / 1_000.0,
            "request to no route"
        );
    }
    response
}

/// An error becomes a problem that names the request, unless its body is JSON already: then it is a report of its own.
fn in_one_shape(response: Response, id: &RequestId) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = response.extensions().get::<Problem>().cloned();
    let is_a_report = || response.headers().get(CONTENT_TYPE).is_some_and(|it| it == "application/json");
    if problem.is_none() && is_a_report() {
        return response;
    }
    let problem = problem.unwrap_or_else(|| Problem::of_status(status));
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    Response::from_parts(parts, problem.rendered(Some(id)))
}

#[cfg(test)]
mod tests;
