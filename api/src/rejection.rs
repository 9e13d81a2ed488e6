//! Every way a request ends without data: one `match` to status, reason and field, told as a problem document.
//!
//! What the caller did wrong is a 4xx that says what; what is wrong with us is a 503 or a 500 that says nothing more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use platform::postgres;
use platform::problem::{Problem, documented};
use utoipa::openapi::RefOr;

/// All that is said about Postgres.
const AWAY: &str = "the answer cannot be had right now";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// Nobody is named.
    #[error("a token is needed: Authorization: Bearer, or the cookie panel_token")]
    MissingToken,
    /// Not a token of ours, or one that is not good yet.
    #[error("the token is not valid")]
    InvalidToken,
    /// It was one of ours.
    #[error("the token has expired")]
    ExpiredToken,
    /// A company asks for another one.
    #[error("the token is not for this company")]
    OtherCompany,
    /// A parameter of the query is missing or makes no sense.
    #[error("{field}: {problem}")]
    BadParameter {
        /// Its name.
        field: Cow<'static, str>,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
    /// The operator asks for a company that does not exist.
    #[error("company_id: no such company")]
    UnknownCompany,
    /// Nothing is served there.
    #[error("no such path")]
    UnknownPath,
    /// Our side: Postgres.
    #[error("{AWAY}")]
    Postgres(#[from] postgres::Failure),
    /// Our side: a company's time zone, checked when it was set, is not in this machine's tables.
    #[error("the company's time zone is not known here")]
    Zone(#[source] jiff::Error),
}

impl Rejection {
    /// A parameter that is missing or makes no sense.
    pub(crate) fn parameter(field: &'static str, problem: &'static str) -> Self {
        Rejection::BadParameter { field: Cow::Borrowed(field), problem }
    }

    fn judged(&self) -> (StatusCode, &'static str) {
        match self {
            Rejection::MissingToken => (StatusCode::UNAUTHORIZED, "missing_token"),
            Rejection::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Rejection::ExpiredToken => (StatusCode::UNAUTHORIZED, "expired_token"),
            Rejection::OtherCompany => (StatusCode::FORBIDDEN, "other_company"),
            Rejection::BadParameter { .. } => (StatusCode::BAD_REQUEST, "bad_parameter"),
            Rejection::UnknownCompany => (StatusCode::NOT_FOUND, "unknown_company"),
            Rejection::UnknownPath => (StatusCode::NOT_FOUND, "unknown_path"),
            Rejection::Postgres(failure) if is_passing(failure) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Rejection::Postgres(_) | Rejection::Zone(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Rejection::BadParameter { field, .. } => Some(field),
            Rejection::OtherCompany | Rejection::UnknownCompany => Some("company_id"),
            _ => None,
        }
    }

    /// For the operator's eyes; the SQLSTATE alone, because Postgres' own words may quote a row.
    fn log(&self) {
        match self {
            Rejection::Postgres(failure) => {
                let sqlstate = match failure {
                    postgres::Failure::Statement(error) => error.code().map(|it| it.code()),
                    postgres::Failure::Pool(_) | postgres::Failure::Build(_) | postgres::Failure::Refused(_) => None,
                };
                tracing::error!(error = %failure, sqlstate, "a request could not be answered");
            }
            Rejection::Zone(error) => tracing::error!(%error, "a request could not be answered"),
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
        let (status, reason) = rejection.judged();
        let field = rejection.field().map(str::to_owned);
        with_headers(Problem::new(status, reason, rejection.to_string()).with_field(field), status, reason)
    }
}

/// What the status asks for.
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

/// How every route that shows a company's data may refuse.
impl utoipa::IntoResponses for Rejection {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let refused = [
            Rejection::parameter("company_id", "must be a positive whole number"),
            Rejection::MissingToken,
            Rejection::InvalidToken,
            Rejection::ExpiredToken,
            Rejection::OtherCompany,
            Rejection::UnknownCompany,
        ];
        let ours = [(StatusCode::INTERNAL_SERVER_ERROR, "internal"), (StatusCode::SERVICE_UNAVAILABLE, "unavailable")];
        let ours = ours.map(|(status, reason)| with_headers(Problem::new(status, reason, AWAY), status, reason));
        documented(refused.iter().map(Problem::from).chain(ours))
    }
}

/// Whether asking again may help: no connection, a server that stops or is full, a statement cut short.
fn is_passing(failure: &postgres::Failure) -> bool {
    match failure {
        postgres::Failure::Pool(_) => true,
        postgres::Failure::Build(_) | postgres::Failure::Refused(_) => false,
        postgres::Failure::Statement(error) => match error.code() {
            Some(code) => ["08", "40", "53", "57", "25P03"].iter().any(|class| code.code().starts_with(class)),
            None => error.is_closed() || std::error::Error::source(error).is_some_and(|it| it.is::<std::io::Error>()),
        },
    }
}
