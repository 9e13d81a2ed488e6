//! What every request gets, whichever route answers it: an id, and a problem document in place of a bare error.
//!
//! The id is the caller's `X-Request-Id` if it is a sane one, else the trace of its `traceparent`, else one of ours. It
//! is in the answer's `X-Request-Id`, in problem documents, and in the log as `correlation_id`. Handlers find it in the
//! request's extensions.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use crate::clock;
use crate::http::Answers;
use crate::problem::{self, Problem};
use crate::trace::Traceparent;

/// The header, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most letters of an id that a caller gives.
pub const LONGEST_ID: usize = 64;

/// A request's id: 1 to 64 ASCII letters, digits, and `-`, `_`, `.` or `:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        // All of it is ASCII.
        self.0.to_str().unwrap_or_default()
    }

    /// An id as documents show it.
    pub(crate) fn example() -> Self {
        RequestId(HeaderValue::from_static("5f2c9a41d07be836-17"))
    }

    /// What the caller says it is: the one sane `X-Request-Id`, or else its trace.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(REQUEST_ID).iter();
        if let (Some(value), None) = (values.next(), values.next())
            && is_sane(value.as_bytes())
        {
            return Some(RequestId(value.clone()));
        }
        let trace = headers.get("traceparent").and_then(|it| Traceparent::parse(it.to_str().ok()?))?;
        Some(RequestId(HeaderValue::from_str(trace.correlation_id()).ok()?))
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=LONGEST_ID).contains(&id.len())
        && id.iter().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.' | b':'))
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
        let id = HeaderValue::try_from(format!("{}{number}", self.0.prefix));
        RequestId(id.unwrap_or(HeaderValue::from_static("-")))
    }
}

/// Routes whose requests all have an id, and whose errors all have the shape of a problem: around all of them, because what
/// no route answers gets the same.
///
/// Not a layer of theirs: that costs a boxed service and a boxed future for every request.
#[derive(Debug, Clone)]
pub struct InOneShape<A> {
    routes: A,
    ids: RequestIds,
}

/// Gives every request of those routes an id, and every error of theirs the shape of a problem.
pub fn answered_in_one_shape<A: Answers>(routes: A, ids: RequestIds) -> InOneShape<A> {
    InOneShape { routes, ids }
}

impl<A: Answers> Answers for InOneShape<A> {
    async fn answer(&self, mut request: Request) -> Response {
        let began = clock::instant();
        let method = request.method().clone();
        let id = RequestId::given(request.headers()).unwrap_or_else(|| self.ids.next());
        request.extensions_mut().insert(id.clone());

        let response = self.routes.answer(request).await;
        // Whatever has a route leaves a line of its own, or is a probe and leaves none.
        let is_unrouted = response.status() == StatusCode::NOT_FOUND && is_bare(&response);
        let mut response = in_one_shape(response, &id);

        response.headers_mut().insert(REQUEST_ID, id.0.clone());
        if is_unrouted {
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
}

fn is_bare(response: &Response) -> bool {
    response.extensions().get::<Problem>().is_none() && !is_a_report(response)
}

fn is_a_report(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|it| it == "application/json")
}

/// An error becomes a problem that names the request, unless its body is JSON already: then it is a report of its own.
fn in_one_shape(response: Response, id: &RequestId) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = response.extensions().get::<Problem>().cloned();
    if problem.is_none() && is_a_report(&response) {
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
