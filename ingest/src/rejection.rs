//! Why a webhook is not accepted: one status, one reason that is also the metric's label, and one sentence for each case.
//!
//! A 4xx is the caller's fault and not worth sending again unchanged, except the 408 of a body that did not arrive
//! completely; our own fault is always a 503 with `Retry-After`. No sentence repeats anything from a body, a header or a
//! secret.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform::problem::Problem;

/// Why a webhook is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is not proven which company sent it.
    #[error(transparent)]
    Unauthenticated(#[from] Unauthenticated),
    /// The body is no JSON. The position, counted from 1, is where the parser stopped.
    #[error("the body is not JSON: unreadable at line {line}, column {column}")]
    NotJson {
        line: usize,
        /// The column, in bytes.
        column: usize,
    },
    /// Nothing in the body identifies the sender.
    #[error("no number: expected number, ticket.contact.number, key.remoteJidAlt or key.remoteJid")]
    MissingNumber,
    /// There is no message, or a known kind with an unexpected structure. A kind that we do not know is accepted.
    #[error("no known message: expected conversation, extendedTextMessage, buttonsResponseMessage or the like")]
    UnknownShape,
    /// A field is present and invalid.
    #[error("the field {field} cannot be understood")]
    InvalidField {
        /// Its path in the body.
        field: &'static str,
    },
    /// The body is over the size limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The body ended early, or took too long.
    #[error("the body did not arrive whole: send it again")]
    Incomplete,
    /// We cannot accept any webhook now, or none of this company.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What is wrong with the proof of origin. An unknown company gets [`Unauthenticated::BadSignature`], as a forged signature
/// does, so that callers cannot find out which companies exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No `X-Timestamp`, or no whole number in it.
    #[error("X-Timestamp is missing or is not a whole number of epoch seconds")]
    MissingTimestamp,
    #[error("X-Timestamp is too old: sign again with the current time")]
    StaleTimestamp,
    /// Signed in the future by our clock, beyond the tolerance.
    #[error("X-Timestamp is ahead of our clock: check yours, and that it counts seconds and not milliseconds")]
    FutureTimestamp,
    #[error("X-Signature is missing")]
    MissingSignature,
    /// No secret of the company that is in force makes this signature.
    #[error("X-Signature does not fit: hex(hmac_sha256(secret, timestamp + \".\" + the body's bytes as sent))")]
    BadSignature,
    /// The company requires a token, and this is not it.
    #[error("X-Webhook-Token is missing or wrong")]
    BadToken,
}

/// What keeps us from accepting a valid webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The broker did not acknowledge the record. It may be written all the same; the same webhook again has the same id.
    #[error("the hook could not be stored: send it again")]
    NotDurable,
    /// The companies' secrets were never loaded, or this company's cannot be opened.
    #[error("not ready yet: send it again")]
    DirectoryNotLoaded,
    #[error("shutting down: send it again")]
    ShuttingDown,
}

impl Rejection {
    pub fn status(&self) -> StatusCode {
        self.answer().0
    }

    /// The metric's label, which is also the `reason` in the response.
    pub fn outcome(&self) -> &'static str {
        self.answer().1
    }

    /// Which part of the body is wrong, if it is the body.
    pub fn field(&self) -> Option<&'static str> {
        match *self {
            Rejection::NotJson { .. } => Some("body"),
            Rejection::MissingNumber => Some("number"),
            Rejection::UnknownShape => Some("message"),
            Rejection::InvalidField { field } => Some(field),
            Rejection::Unauthenticated(_)
            | Rejection::TooLarge { .. }
            | Rejection::Incomplete
            | Rejection::Unavailable(_) => None,
        }
    }

    fn answer(&self) -> (StatusCode, &'static str, Option<u16>) {
        use StatusCode as Status;
        match self {
            Rejection::Unauthenticated(why) => (Status::UNAUTHORIZED, why.reason(), None),
            Rejection::NotJson { .. } => (Status::BAD_REQUEST, "not_json", None),
            Rejection::MissingNumber => (Status::UNPROCESSABLE_ENTITY, "missing_number", None),
            Rejection::UnknownShape => (Status::UNPROCESSABLE_ENTITY, "unknown_shape", None),
            Rejection::InvalidField { .. } => (Status::UNPROCESSABLE_ENTITY, "invalid_field", None),
            Rejection::TooLarge { .. } => (Status::PAYLOAD_TOO_LARGE, "too_large", None),
            Rejection::Incomplete => (Status::REQUEST_TIMEOUT, "incomplete_body", None),
            Rejection::Unavailable(why) => (Status::SERVICE_UNAVAILABLE, why.reason(), Some(why.retry_after_s())),
        }
    }
}

impl Unauthenticated {
    pub fn reason(self) -> &'static str {
        match self {
            Unauthenticated::MissingTimestamp => "missing_timestamp",
            Unauthenticated::StaleTimestamp => "stale_timestamp",
            Unauthenticated::FutureTimestamp => "future_timestamp",
            Unauthenticated::MissingSignature => "missing_signature",
            Unauthenticated::BadSignature => "bad_signature",
            Unauthenticated::BadToken => "bad_token",
        }
    }
}

impl Unavailable {
    pub fn reason(self) -> &'static str {
        match self {
            Unavailable::NotDurable => "not_durable",
            Unavailable::DirectoryNotLoaded => "directory_not_loaded",
            Unavailable::ShuttingDown => "shutting_down",
        }
    }

    /// For `Retry-After`: a broker needs time to elect a leader, another instance answers at once.
    fn retry_after_s(self) -> u16 {
        match self {
            Unavailable::NotDurable => 5,
            Unavailable::DirectoryNotLoaded => 2,
            Unavailable::ShuttingDown => 1,
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let (status, reason, retry_after_s) = rejection.answer();
        let problem = Problem::new(status, reason, rejection.to_string()).with_field(rejection.field());
        match retry_after_s {
            Some(seconds) => problem.with_header(header::RETRY_AFTER, HeaderValue::from(seconds)),
            None => problem,
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use axum::body::to_bytes;

    use super::*;

    /// The response as one line: status, `Retry-After`, reason, field, sentence. Its body is in memory, so the future is ready
    /// at the first poll.
    fn summary(rejection: Rejection) -> String {
        let response = rejection.into_response();
        let status = response.status().as_u16();
        let retry = response.headers().get(header::RETRY_AFTER).map(|it| it.to_str().unwrap().to_owned());
        let body = pin!(to_bytes(response.into_body(), 4096));
        let Poll::Ready(Ok(body)) = body.poll(&mut Context::from_waker(Waker::noop())) else { panic!("no body") };
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["detail"], &problem["status"]), (&problem["error"], &status.into()));
        assert_eq!(problem["type"], format!("urn:secretaria:problem:{}", problem["reason"].as_str().unwrap()));
        let field = problem["field"].as_str().map(|it| format!(" [{it}]")).unwrap_or_default();
        let [reason, error] = ["reason", "error"].map(|it| problem[it].as_str().unwrap());
        format!("{status} {} {reason}{field}: {error}", retry.as_deref().unwrap_or("-"))
    }

    #[test]
    fn each_refusal_names_its_reason_and_its_field() {
        let all = [
            Unauthenticated::MissingTimestamp.into(),
            Unauthenticated::StaleTimestamp.into(),
            Unauthenticated::FutureTimestamp.into(),
            Unauthenticated::MissingSignature.into(),
            Unauthenticated::BadSignature.into(),
            Unauthenticated::BadToken.into(),
            Rejection::NotJson { line: 3, column: 14 },
            Rejection::MissingNumber,
            Rejection::UnknownShape,
            Rejection::InvalidField { field: "number" },
            Rejection::TooLarge { limit: 1_048_576 },
            Rejection::Incomplete,
            Unavailable::NotDurable.into(),
            Unavailable::DirectoryNotLoaded.into(),
            Unavailable::ShuttingDown.into(),
        ];
        insta::assert_snapshot!(all.map(summary).join("\n"), @r#"
        401 - missing_timestamp: X-Timestamp is missing or is not a whole number of epoch seconds
        401 - stale_timestamp: X-Timestamp is too old: sign again with the current time
        401 - future_timestamp: X-Timestamp is ahead of our clock: check yours, and that it counts seconds and not milliseconds
        401 - missing_signature: X-Signature is missing
        401 - bad_signature: X-Signature does not fit: hex(hmac_sha256(secret, timestamp + "." + the body's bytes as sent))
        401 - bad_token: X-Webhook-Token is missing or wrong
        400 - not_json [body]: the body is not JSON: unreadable at line 3, column 14
        422 - missing_number [number]: no number: expected number, ticket.contact.number, key.remoteJidAlt or key.remoteJid
        422 - unknown_shape [message]: no known message: expected conversation, extendedTextMessage, buttonsResponseMessage or the like
        422 - invalid_field [number]: the field number cannot be understood
        413 - too_large: the body is larger than 1048576 bytes
        408 - incomplete_body: the body did not arrive whole: send it again
        503 5 not_durable: the hook could not be stored: send it again
        503 2 directory_not_loaded: not ready yet: send it again
        503 1 shutting_down: shutting down: send it again
        "#);
    }

    #[test]
    fn only_our_own_fault_has_a_retry_after() {
        assert!(summary(Unavailable::NotDurable.into()).starts_with("503 5 "));
        assert!(summary(Rejection::MissingNumber).starts_with("422 - "));
    }
}
