//! The HTTP API, with which companies read their own data, and the functions that add and change companies.
//!
//! In reading order:
//! - [`routes`] — `GET /api/usage`, `GET /api/conversations`, `GET /api/analytics/summary`, `GET /api/analytics/history`,
//!   `GET /api/analytics/export`, `GET /api/openapi.json`; every other `/api` path is a 404.
//!   A further route is a documented handler and one line in `documented_routes`.
//! - [`auth`] — a signed token names a company and a scope. Every route that returns a company's data needs one.
//! - `scoped` — one read-only transaction per request, in which row-level security shows one company only.
//! - [`companies`] — the only module that writes the tables `companies`, `channels` and `company_webhooks`.
//! - [`keys`] — the two key files, created once.
//!
//! The HTTP routes only read, so repeating any request is safe.

mod analytics;
pub mod auth;
pub mod companies;
mod conversations;
mod description;
mod request_log;
pub mod keys;
mod pages;
mod parameters;
mod rejection;
mod scoped;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::any;
use jiff::Timestamp;
use platform::postgres::Db;
use platform::{clock, openapi, settings};
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use rejection::Rejection;

/// Settings `api.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a token is valid by default, in seconds.
    pub token_ttl_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { token_ttl_s: 86_400 }
    }
}

impl Config {
    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// Names the setting that is not.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if !(60..=31_536_000).contains(&self.token_ttl_s) {
            return Err(settings::Error::invalid("api.token_ttl_s", "must be between 60 and 31536000 (a year)"));
        }
        Ok(())
    }

    pub fn token_ttl(&self) -> Duration {
        Duration::from_secs(self.token_ttl_s)
    }
}

/// What the routes need; axum's state.
#[derive(Clone)]
pub struct Api {
    /// Connections of the role `secretaria_api`, which sees nothing until a transaction names its company.
    pub db: Db,
    pub keys: Arc<auth::Keys>,
    /// The clock. Decides whether a token has expired and which month is the current one.
    pub now: fn() -> Timestamp,
    /// The body of `GET /api/openapi.json`: every route of the product, not of this crate alone.
    pub description: Arc<str>,
}

impl Api {
    /// With the real clock.
    pub fn new(db: Db, keys: Arc<auth::Keys>, description: Arc<str>) -> Self {
        Api { db, keys, now: clock::now, description }
    }
}

/// The routes. They cover `/api` and what is below it and nothing else, so routers of other crates can be merged.
pub fn routes(api: Api) -> Router {
    let (routes, _) = documented_routes().split_for_parts();
    routes
        .route("/api", any(unknown_path))
        .route("/api/", any(unknown_path))
        .route("/api/{*rest}", any(unknown_path))
        .layer(from_fn(request_log::log))
        .with_state(api)
}

/// The OpenAPI document of this crate's routes.
pub fn document() -> OpenApi {
    let mut document = documented_routes().into_openapi();
    for (name, scheme) in auth::security_schemes() {
        openapi::add_security(&mut document, name, scheme);
    }
    // A route that declares no security needs a token.
    let needed = auth::security_schemes().map(|(name, _)| SecurityRequirement::new(name, [""; 0]));
    for operation in document.paths.paths.values_mut().flat_map(openapi::operations) {
        operation.security.get_or_insert_with(|| needed.to_vec());
    }
    document
}

/// Every route, one line each.
fn documented_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(usage::answer))
        .routes(routes!(conversations::answer))
        .routes(routes!(analytics::summary::answer))
        .routes(routes!(analytics::history::answer))
        .routes(routes!(analytics::export::answer))
        .routes(routes!(description::answer))
}

async fn unknown_path() -> Rejection {
    Rejection::UnknownPath
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_a_minute_to_a_year() {
        assert!(Config::default().validate().is_ok());
        assert!(Config { token_ttl_s: 59 }.validate().is_err());
        assert!(Config { token_ttl_s: 31_536_001 }.validate().is_err());
    }
}
