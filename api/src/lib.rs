//! From tables to people: what a company asks over HTTP, and how companies themselves are made.
//!
//! In reading order:
//! - [`routes`] — `GET /api/usage`, `GET /api/conversations`, `GET /api/openapi.json`; every other `/api` path is a 404.
//!   A further route is a documented handler and one line in `documented_routes`.
//! - [`auth`] — who asks: a signed token names a company and a scope. No route that returns a company's data is open.
//! - `scoped` — one read-only transaction per request, in which Postgres itself shows one company only.
//! - [`companies`] — the one writing module of the tables `companies` and `channels`.
//! - [`keys`] — the two key files, made once.
//!
//! The HTTP side only reads. Repeating any request is safe.

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
    /// How long a token is good for, in seconds.
    pub token_ttl_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { token_ttl_s: 86_400 }
    }
}

impl Config {
    /// Checks what can be checked without serving.
    ///
    /// # Errors
    /// Names the setting that makes no sense.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if !(60..=31_536_000).contains(&self.token_ttl_s) {
            return Err(settings::Error::invalid("api.token_ttl_s", "must be between 60 and 31536000 (a year)"));
        }
        Ok(())
    }

    /// How long a token is good for.
    pub fn token_ttl(&self) -> Duration {
        Duration::from_secs(self.token_ttl_s)
    }
}

/// What the routes stand on.
#[derive(Clone)]
pub struct Api {
    /// Connections of the role `secretaria_api`, which sees nothing until a transaction names its company.
    pub db: Db,
    /// Reads tokens.
    pub keys: Arc<auth::Keys>,
    /// What time it is: decides whether a token is still good and which month is the current one.
    pub now: fn() -> Timestamp,
    /// What `GET /api/openapi.json` says: every route of the product, not of this crate alone.
    pub description: Arc<str>,
}

impl Api {
    /// With the real clock.
    pub fn new(db: Db, keys: Arc<auth::Keys>, description: Arc<str>) -> Self {
        Api { db, keys, now: clock::now, description }
    }
}

/// The routes. Nothing but `/api` and what is below it is claimed, so other rooms' routers can be merged.
pub fn routes(api: Api) -> Router {
    let (routes, _) = documented_routes().split_for_parts();
    routes
        .route("/api", any(unknown_path))
        .route("/api/", any(unknown_path))
        .route("/api/{*rest}", any(unknown_path))
        .layer(from_fn(request_log::keep))
        .with_state(api)
}

/// What the routes say about themselves.
pub fn document() -> OpenApi {
    let mut document = documented_routes().into_openapi();
    for (name, scheme) in auth::security_schemes() {
        openapi::add_security(&mut document, name, scheme);
    }
    // A route that says nothing about it needs a token.
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
        .routes(routes!(description::answer))
}

async fn unknown_path() -> Rejection {
    Rejection::UnknownPath
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_between_a_minute_and_a_year() {
        assert!(Config::default().validate().is_ok());
        assert!(Config { token_ttl_s: 59 }.validate().is_err());
        assert!(Config { token_ttl_s: 31_536_001 }.validate().is_err());
    }
}
