//! Wraps all routes: every request gets an id, and every error without a body becomes a problem document.
//!
//! The id is the caller's `X-Request-Id` if it is valid, else the trace id of its `traceparent`, else a new one. It is
//! in the answer's `X-Request-Id`, in problem documents, and in the log as `correlation_id`. Handlers find it in the
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

/// The header of requests and answers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most characters of a caller's id.
pub const LONGEST_ID: usize = 64;

/// A request's id: 1 to 64 ASCII letters, digits, and `-`, `_`, `.` or `:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub fn as_str(&self) -> &str {
        // All of it is ASCII.
        self.0.to_str().unwrap_or_default()
    }

    /// An example for the OpenAPI document.
    pub(crate) fn example() -> Self {
        RequestId(HeaderValue::from_static("5f2c9a41d07be836-17"))
    }

    /// The caller's id: its only `X-Request-Id` if valid, or else its trace id.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(REQUEST_ID).iter();
        if let (Some(value), None) = (values.next(), values.next())
            && is_valid_id(value.as_bytes())
        {
            return Some(RequestId(value.clone()));
        }
        let trace = headers.get("traceparent").and_then(|it| Traceparent::parse(it.to_str().ok()?))?;
        Some(RequestId(HeaderValue::from_str(trace.correlation_id()).ok()?))
    }
}

fn is_valid_id(id: &[u8]) -> bool {
    (1..=LONGEST_ID).contains(&id.len())
        && id.iter().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.' | b':'))
}

/// Generates the ids of one process: a random prefix and a number.
#[derive(Debug, Clone)]
pub struct RequestIds(Arc<Series>);

#[derive(Debug)]
struct Series {
    prefix: String,
    last: AtomicU64,
}

impl RequestIds {
    /// Ids that begin with these bytes as hex digits; the caller provides random ones.
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

/// Routes whose requests all have an id, and whose errors are all problem documents, including those of unknown paths.
///
/// Not an axum layer: that would cost a boxed service and a boxed future per request.
#[derive(Debug, Clone)]
pub struct WithIdsAndProblems<A> {
    routes: A,
    ids: RequestIds,
}

/// Gives every request an id, and turns every error into a problem document.
pub fn with_ids_and_problems<A: Answers>(routes: A, ids: RequestIds) -> WithIdsAndProblems<A> {
    WithIdsAndProblems { routes, ids }
}

impl<A: Answers> Answers for WithIdsAndProblems<A> {
    async fn answer(&self, mut request: Request) -> Response {
        let began = clock::instant();
        let method = request.method().clone();
        let id = RequestId::given(request.headers()).unwrap_or_else(|| self.ids.next());
        request.extensions_mut().insert(id.clone());

        let response = self.routes.answer(request).await;
        // Handlers log their own requests; probes are not logged.
        let is_unrouted = response.status() == StatusCode::NOT_FOUND && is_bare(&response);
        let mut response = as_problem(response, &id);

        response.headers_mut().insert(REQUEST_ID, id.0.clone());
        if is_unrouted {
            tracing::info!(
                correlation_id = id.as_str(),
                method = method.as_str(),
                status = response.status().as_u16(),
                duration_ms = began.elapsed().as_micros() as f64 / 1_000.0,
                "no route for request"
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

/// Turns an error into a problem document with the request's id, unless its body is JSON already (`/healthz`).
fn as_problem(response: Response, id: &RequestId) -> Response {
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
