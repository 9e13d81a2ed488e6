//! Every way a request ends without data: one `match` to status, reason and field.
//!
//! What the caller did wrong is a 4xx that says what; what is wrong with us is a 503 or a 500 that says nothing more.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use platform::postgres;
use serde_json::json;

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
    /// The path is only read.
    #[error("this path answers GET only")]
    WrongMethod,
    /// Our side: Postgres.
    #[error("the answer cannot be had right now")]
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
            Rejection::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "wrong_method"),
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

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.log();
        let (status, reason) = self.judged();
        let mut body = json!({ "error": self.to_string(), "reason": reason });
        if let Some(field) = self.field() {
            body["field"] = json!(field);
        }
        let mut response = (status, Json(body)).into_response();
        let extra = match status {
            StatusCode::UNAUTHORIZED if reason == "missing_token" => {
                Some((WWW_AUTHENTICATE, r#"Bearer realm="secretaria""#))
            }
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, r#"Bearer realm="secretaria", error="invalid_token""#)),
            StatusCode::METHOD_NOT_ALLOWED => Some((ALLOW, "GET, HEAD")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "2")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
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
