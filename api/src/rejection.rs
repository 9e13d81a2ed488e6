//! Every way a request ends without data: one `match` to status, reason and field, sent as a problem document.
//!
//! The caller's fault is a 4xx that names the fault; our own is a 503 or a 500 without details.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use platform::postgres;
use platform::problem::{Problem, documented};
use utoipa::openapi::RefOr;

/// The only sentence that callers get about our own faults.
const AWAY: &str = "the answer cannot be had right now";

/// Why a request is refused or fails.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// There is no token.
    #[error("a token is needed: Authorization: Bearer, or the cookie panel_token")]
    MissingToken,
    /// Not a token of ours, or one that is not valid yet.
    #[error("the token is not valid")]
    InvalidToken,
    #[error("the token has expired")]
    ExpiredToken,
    /// A company's token was used for another company.
    #[error("the token is not for this company")]
    OtherCompany,
    /// A parameter of the query is missing, repeated, unknown or invalid.
    #[error("{field}: {problem}")]
    BadParameter {
        field: Cow<'static, str>,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
    /// An operator's token was used for a company that does not exist.
    #[error("company_id: no such company")]
    UnknownCompany,
    #[error("no such path")]
    UnknownPath,
    /// The company's plan does not have what was asked for.
    #[error("the plan does not include {feature}")]
    FeatureUnavailable { feature: &'static str },
    /// Our fault: Postgres is away or refused.
    #[error("{AWAY}")]
    Postgres(#[from] postgres::Failure),
    /// Our fault: a file could not be written.
    #[error("{AWAY}")]
    Export,
    /// Our fault: a company's time zone, checked when it was set, is not in this machine's time zone database.
    #[error("the company's time zone is not known here")]
    Zone(#[source] jiff::Error),
}

impl Rejection {
    pub(crate) fn parameter(field: &'static str, problem: &'static str) -> Self {
        Rejection::BadParameter { field: Cow::Borrowed(field), problem }
    }

    fn status_and_reason(&self) -> (StatusCode, &'static str) {
        match self {
            Rejection::MissingToken => (StatusCode::UNAUTHORIZED, "missing_token"),
            Rejection::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Rejection::ExpiredToken => (StatusCode::UNAUTHORIZED, "expired_token"),
            Rejection::OtherCompany => (StatusCode::FORBIDDEN, "other_company"),
            Rejection::BadParameter { .. } => (StatusCode::BAD_REQUEST, "bad_parameter"),
            Rejection::UnknownCompany => (StatusCode::NOT_FOUND, "unknown_company"),
            Rejection::UnknownPath => (StatusCode::NOT_FOUND, "unknown_path"),
            Rejection::FeatureUnavailable { .. } => (StatusCode::FORBIDDEN, "feature_unavailable"),
            Rejection::Postgres(failure) if is_transient(failure) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Rejection::Postgres(_) | Rejection::Export | Rejection::Zone(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Rejection::BadParameter { field, .. } => Some(field),
            Rejection::FeatureUnavailable { feature } => Some(feature),
            Rejection::OtherCompany | Rejection::UnknownCompany => Some("company_id"),
            _ => None,
        }
    }

    /// Logs our own faults. Of Postgres' error only the SQLSTATE, because its message may quote a row.
    fn log(&self) {
        match self {
            Rejection::Postgres(failure) => {
                let sqlstate = match failure {
                    postgres::Failure::Statement(error) => error.code().map(|it| it.code()),
                    postgres::Failure::Pool(_)
                    | postgres::Failure::Build(_)
                    | postgres::Failure::Refused(_)
                    | postgres::Failure::Unavailable(_) => None,
                };
                tracing::error!(error = %failure, sqlstate, "request failed");
            }
            Rejection::Zone(error) => tracing::error!(%error, "request failed"),
            _ => {}
        }
    }
}

impl From<postgres::Error> for Rejection {
    fn from(error: postgres::Error) -> Self {
        Rejection::Postgres(error.into())
    }
}

impl From<&Rejection> for Problem {
    fn from(rejection: &Rejection) -> Self {
        let (status, reason) = rejection.status_and_reason();
        let field = rejection.field().map(str::to_owned);
        with_headers(Problem::new(status, reason, rejection.to_string()).with_field(field), status, reason)
    }
}

/// Adds the header that the status requires.
fn with_headers(problem: Problem, status: StatusCode, reason: &str) -> Problem {
    let (name, value) = match status {
        StatusCode::UNAUTHORIZED if reason == "missing_token" => (WWW_AUTHENTICATE, r#"Bearer realm="secretaria""#),
        StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, r#"Bearer realm="secretaria", error="invalid_token""#),
        StatusCode::SERVICE_UNAVAILABLE => (RETRY_AFTER, "2"),
        _ => return problem,
    };
    problem.with_header(name, HeaderValue::from_static(value))
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.log();
        Problem::from(&self).into_response()
    }
}

/// The refusals of every route that shows a company's data.
impl utoipa::IntoResponses for Rejection {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let refused = [
            Rejection::parameter("company_id", "must be a positive whole number"),
            Rejection::MissingToken,
            Rejection::InvalidToken,
            Rejection::ExpiredToken,
            Rejection::OtherCompany,
            Rejection::FeatureUnavailable { feature: "analytics_export" },
            Rejection::UnknownCompany,
        ];
        let ours = [(StatusCode::INTERNAL_SERVER_ERROR, "internal"), (StatusCode::SERVICE_UNAVAILABLE, "unavailable")];
        let ours = ours.map(|(status, reason)| with_headers(Problem::new(status, reason, AWAY), status, reason));
        documented(refused.iter().map(Problem::from).chain(ours))
    }
}

/// Whether repeating the request may help: no connection, a server that is stopping or full, a cancelled statement.
fn is_transient(failure: &postgres::Failure) -> bool {
    match failure {
        postgres::Failure::Pool(_) | postgres::Failure::Unavailable(_) => true,
        postgres::Failure::Build(_) | postgres::Failure::Refused(_) => false,
        postgres::Failure::Statement(error) => match error.code() {
            Some(code) => ["08", "40", "53", "57", "25P03"].iter().any(|class| code.code().starts_with(class)),
            None => error.is_closed() || std::error::Error::source(error).is_some_and(|it| it.is::<std::io::Error>()),
        },
    }
}
