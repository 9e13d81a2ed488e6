//! One line per request: who asked for what, how it ended, how long it took. Never a query, a token or a body.

use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::Next;
use axum::response::Response;
use domain::CompanyId;
use platform::clock;
use platform::trace::Traceparent;

/// Where a request leaves its company's name for its line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<OnceLock<CompanyId>>);

impl Journal {
    /// Names the company; the first one named stays.
    pub(crate) fn note(&self, company: CompanyId) {
        let _ = self.0.set(company);
    }
}

/// Writes the line, and keeps the answer out of every cache.
pub(crate) async fn keep(mut request: Request, next: Next) -> Response {
    let began = clock::instant();
    let journal = Journal::default();
    request.extensions_mut().insert(journal.clone());
    let method = request.method().clone();
    // The route, not what was typed: a path that does not exist may hold anything.
    let path = request.extensions().get::<MatchedPath>().cloned();
    let trace = request.headers().get("traceparent").and_then(|it| Traceparent::parse(it.to_str().ok()?));

    let mut response = next.run(request).await;

    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    tracing::info!(
        correlation_id = trace.as_ref().map(Traceparent::correlation_id),
        method = method.as_str(),
        path = path.as_ref().map(MatchedPath::as_str),
        status = response.status().as_u16(),
        company_id = journal.0.get().map(|company| company.0),
        duration_ms = began.elapsed().as_micros() as f64 / 1_000.0,
        "request"
    );
    response
}
