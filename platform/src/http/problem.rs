//! Errors over HTTP, in one shape for every route: problem documents (RFC 9457), `application/problem+json`.
//!
//! Besides the members of the RFC a body has `reason` (a code for programs), `field` (the part of the request that is
//! wrong, if it is one) and `request_id`. `error` is `detail` under its former name. The id is added by
//! [`crate::request`], which also turns the framework's own errors into problems.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::Header;
use utoipa::openapi::{Object, Ref, RefOr, Response as Documented, Type};

use crate::request::RequestId;

/// The content type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One error, as the caller receives it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    reason: &'static str,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `reason` is lower case with underscores; `detail` is a sentence about this occurrence and holds nothing secret.
    pub fn new(status: StatusCode, reason: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { status, reason, detail: detail.into(), field: None, headers: Vec::new() }
    }

    /// Names the part of the request that is wrong.
    #[must_use]
    pub fn with_field(self, field: Option<impl Into<Cow<'static, str>>>) -> Self {
        Problem { field: field.map(Into::into), ..self }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The problem for an error of the framework, of which only the status is used. Its own text is not passed on: it may
    /// quote the request.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (reason, detail) = match status {
            StatusCode::BAD_REQUEST => ("bad_request", "the request cannot be read"),
            StatusCode::NOT_FOUND => ("unknown_path", "no such path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("wrong_method", "this path does not answer that method; the header Allow names those it answers")
            }
            StatusCode::REQUEST_TIMEOUT => ("timeout", "the request did not arrive in time"),
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported_media_type", "the content type is not one we read"),
            StatusCode::UNPROCESSABLE_ENTITY => ("unprocessable", "the body cannot be understood"),
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "the answer cannot be had right now"),
            _ if status.is_server_error() => ("internal", "the answer cannot be had"),
            _ => ("refused", "the request is refused"),
        };
        Problem::new(status, reason, detail)
    }

    pub(crate) fn body(&self, request: Option<&RequestId>) -> Document {
        let mut title = self.reason.replace('_', " ");
        title[..1].make_ascii_uppercase();
        Document {
            kind: format!("urn:secretaria:problem:{}", self.reason),
            title,
            status: self.status.as_u16(),
            detail: self.detail.clone().into_owned(),
            instance: request.map(|id| format!("urn:secretaria:request:{}", id.as_str())),
            field: self.field.clone().map(Cow::into_owned),
            reason: self.reason,
            request_id: request.map(|id| id.as_str().to_owned()),
            error: self.detail.clone().into_owned(),
        }
    }

    pub(crate) fn rendered(&self, request: Option<&RequestId>) -> Body {
        // A document of texts and numbers can always be serialized.
        Body::from(serde_json::to_vec(&self.body(request)).unwrap_or_default())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.rendered(None)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.extend(self.headers.iter().cloned());
        // For [`crate::request`], which knows the request's id.
        response.extensions_mut().insert(self);
        response
    }
}

/// An error, in the shape of RFC 9457.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document {
    /// The kind of problem: `urn:secretaria:problem:` and the reason. Not an address.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    kind: String,
    /// The kind of problem, in words that stay the same.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// This occurrence: `urn:secretaria:request:` and the request's id. Not an address.
    #[schema(format = "uri-reference", nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// What in the request is wrong: a parameter, or a path in the body. Absent if it is no single thing.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The kind of problem as one word, for programs.
    #[schema(pattern = "^[a-z_]+$")]
    reason: &'static str,
    /// The answer's `X-Request-Id`, which our log knows as `correlation_id`.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// The same as `detail`, for clients from before there were problem documents.
    #[schema(deprecated)]
    error: String,
}

/// The OpenAPI responses of problems: one per status, with every problem as an example under its reason.
pub fn documented(problems: impl IntoIterator<Item = Problem>) -> BTreeMap<String, RefOr<Documented>> {
    let mut by_status: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for problem in problems {
        by_status.entry(problem.status.as_u16()).or_default().push(problem);
    }
    by_status.into_iter().map(|(status, problems)| (status.to_string(), of_one_status(&problems).into())).collect()
}

fn of_one_status(problems: &[Problem]) -> Documented {
    let id = RequestId::example();
    let reasons: Vec<_> = problems.iter().map(|it| format!("`{}`", it.reason)).collect();
    let example = |it: &Problem| {
        let value = json!(it.body(Some(&id)));
        (it.reason, ExampleBuilder::new().value(Some(value)).build())
    };
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(problems.iter().map(example))
        .build();
    let mut response = Documented::new(reasons.join(", "));
    response.content.insert(MEDIA_TYPE.to_owned(), content.into());
    for (name, _) in problems.iter().flat_map(|it| &it.headers) {
        response.headers.insert(name.as_str().to_owned(), Header::new(Object::with_type(Type::String)).into());
    }
    response
}
