//! One line per request: who asked for what, how it ended, how long it took. Never a query, a token or a body.

use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::Next;
use axum::response::Response;
use domain::CompanyId;
use platform::clock;
use platform::request::RequestId;

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
    // The route, not what was typed: a path that does not exist may hold anything. What has none leaves its line where
    // ids are given.
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else { return next.run(request).await };
    let began = clock::instant();
    let journal = Journal::default();
    request.extensions_mut().insert(journal.clone());
    let method = request.method().clone();
    let id = request.extensions().get::<RequestId>().cloned();

    let mut response = next.run(request).await;

    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    tracing::info!(
        correlation_id = id.as_ref().map(RequestId::as_str),
        method = method.as_str(),
        path = path.as_str(),
        status = response.status().as_u16(),
        company_id = journal.0.get().map(|company| company.0),
        duration_ms = began.elapsed().as_micros() as f64 / 1_000.0,
        "request"
    );
    response
}
