//! One log line per request: company, method, route, status and duration. Never a query, a token or a body.

use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::Next;
use axum::response::Response;
use domain::CompanyId;
use platform::clock;
use platform::request::RequestId;

/// A request's extension in which the handler leaves the company for the log line.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoggedCompany(Arc<OnceLock<CompanyId>>);

impl LoggedCompany {
    /// Sets the company; the first call wins.
    pub(crate) fn set(&self, company: CompanyId) {
        let _ = self.0.set(company);
    }
}

/// Middleware that writes the line, and sets `no-store` on the response.
pub(crate) async fn log(mut request: Request, next: Next) -> Response {
    // The route is logged, not the path: one that does not exist may contain anything. Requests without a route are logged
    // where request ids are assigned.
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else { return next.run(request).await };
    let began = clock::instant();
    let logged = LoggedCompany::default();
    request.extensions_mut().insert(logged.clone());
    let method = request.method().clone();
    let id = request.extensions().get::<RequestId>().cloned();

    let mut response = next.run(request).await;

    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    tracing::info!(
        correlation_id = id.as_ref().map(RequestId::as_str),
        method = method.as_str(),
        path = path.as_str(),
        status = response.status().as_u16(),
        company_id = logged.0.get().map(|company| company.0),
        duration_ms = began.elapsed().as_micros() as f64 / 1_000.0,
        "request"
    );
    response
}
