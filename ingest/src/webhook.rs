//! `POST /webhook/whaticket` — accepts one webhook, or refuses it with a precise reason.
//!
//! Promise: a 202 means that the record is on every in-sync replica. No other work happens in this crate. Cheap refusals
//! come first: what the headers alone decide is decided before the body is read, and no body is parsed before its
//! signature is verified.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use domain::EventId;
use metrics::{Histogram, counter, histogram};
use platform::health::Readiness;
use platform::http::Answers;
use platform::kafka::Producer;
use platform::request::RequestId;
use platform::trace::Traceparent;
use platform::{clock, metric, task};

use crate::companies::{Companies, Company};
use crate::parse::{self, UnsupportedKind};
use crate::publish::{self, PreparedRecord};
use crate::rejection::{Rejection, Unavailable};
use crate::signature::{Claim, IDEMPOTENCY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, TOKEN_HEADER};

/// What accepting a webhook needs.
#[derive(Clone)]
pub struct Ingest {
    pub companies: Companies,
    pub producer: Producer,
    pub config: crate::Config,
    /// Closed once this process is shutting down; webhooks then get a 503.
    pub readiness: Readiness,
}

const PATH: &str = "/webhook/whaticket";

/// The route in the router's form, for requests to this path that are not webhooks, such as those with another method.
fn routes(webhooks: Webhooks) -> Router {
    // `read_body` limits bodies instead, so that the refusal is a problem document of ours.
    Router::new().route(PATH, post(answer)).layer(DefaultBodyLimit::disable()).with_state(webhooks)
}

/// Answers webhooks. Latencies go to the metrics recorder that was installed when this value was made.
#[derive(Clone)]
pub struct Webhooks(Arc<WebhookState>);

/// Keeps the histogram, so that it is not looked up for each webhook.
struct WebhookState {
    ingest: Ingest,
    latency: Histogram,
}

impl From<Ingest> for Webhooks {
    fn from(ingest: Ingest) -> Self {
        Webhooks(Arc::new(WebhookState { ingest, latency: histogram!(metric::WEBHOOK_LATENCY) }))
    }
}

/// The routes of a process. Webhooks are answered before the router is consulted, because the router costs a lookup, a
/// boxed service and two boxed futures per request.
#[derive(Clone)]
pub struct WebhooksFirst {
    webhooks: Option<Webhooks>,
    routes: Router,
}

impl WebhooksFirst {
    /// `webhooks` is `None` in a process that does not serve ingest; `others` are its other routes.
    pub fn new(webhooks: Option<Webhooks>, others: Router) -> Self {
        let routes = webhooks.clone().map_or_else(Router::new, routes).merge(others);
        WebhooksFirst { webhooks, routes }
    }
}

impl Answers for WebhooksFirst {
    async fn answer(&self, request: Request) -> Response {
        match &self.webhooks {
            Some(webhooks) if request.method() == Method::POST && request.uri().path() == PATH => {
                webhooks.answer(request).await
            }
            _ => self.routes.answer(request).await,
        }
    }
}

/// The 202 of a webhook that is durable.
struct Accepted {
    event: EventId,
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let body = format!(r#"{{"id":"{}","queued":true}}"#, self.event);
        (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

async fn answer(State(webhooks): State<Webhooks>, request: Request) -> Response {
    webhooks.answer(request).await
}

impl Webhooks {
    async fn answer(&self, request: Request) -> Response {
        let began = clock::instant();
        let (head, body) = request.into_parts();
        let result = receive(&self.0.ingest, &head, body, began).await;
        self.0.latency.record(began.elapsed().as_secs_f64());
        result.into_response()
    }
}

async fn receive(ingest: &Ingest, head: &Parts, body: Body, began: Instant) -> Result<Accepted, Rejection> {
    let headers = &head.headers;
    let refuse = |rejection, company: Option<&Company>| refused(rejection, company, head, began);
    if !ingest.readiness.is_open() {
        return Err(refuse(Unavailable::ShuttingDown.into(), None));
    }
    // What the headers alone decide comes first, before waiting for a byte of the body.
    check_declared_length(ingest.config.body_limit_bytes, headers).map_err(|it| refuse(it, None))?;
    let company = ingest.companies.named_by(headers).map_err(|it| refuse(it.into(), None))?;
    let claim = Claim::read(bytes(headers, TIMESTAMP_HEADER), bytes(headers, SIGNATURE_HEADER), clock::now())
        .map_err(|it| refuse(it, Some(&company)))?;
    let body = read_body(body, &ingest.config).await.map_err(|it| refuse(it, None))?;
    match verify_and_parse(&company, claim, headers, &body) {
        Ok(verified) => ingest.store(company, verified, began).await,
        Err(rejection) => Err(refuse(rejection, Some(&company))),
    }
}

fn bytes<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(|it| it.as_bytes())
}

/// A webhook that is verified and parsed, and may be stored.
struct VerifiedWebhook {
    event: EventId,
    trace: Traceparent,
    record: PreparedRecord,
    unsupported: Option<UnsupportedKind>,
}

/// From bytes to a record, without I/O.
fn verify_and_parse(
    company: &Company,
    claim: Claim<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<VerifiedWebhook, Rejection> {
    let now = clock::now();
    let text = |name| headers.get(name).and_then(|it: &axum::http::HeaderValue| it.to_str().ok());
    let proof = claim.verify(&company.secrets, body, now)?; // The raw bytes, before any parsing.
    company.token.as_ref().map_or(Ok(()), |token| token.verify(bytes(headers, TOKEN_HEADER)))?;
    let parsed = parse::whaticket(body, now)?; // Pure: bytes to event.
    let event = publish::identify(company, &parsed.message, bytes(headers, IDEMPOTENCY_HEADER), &proof);
    let trace = text("traceparent").and_then(Traceparent::parse).unwrap_or_else(|| Traceparent::of_event(event));
    let instants = (parsed.occurred_at, now);
    let record = publish::prepare(company, event, parsed.message, instants, &trace, &proof)
        .map_err(|_| Unavailable::NotDurable)?;
    Ok(VerifiedWebhook { event, trace, record, unsupported: parsed.unsupported })
}

impl Ingest {
    /// Publishes the record and waits for the broker's acknowledgement, even if the caller disconnects.
    async fn store(
        &self,
        company: Arc<Company>,
        verified: VerifiedWebhook,
        began: Instant,
    ) -> Result<Accepted, Rejection> {
        let VerifiedWebhook { event, trace, record, unsupported } = verified;
        let published = record.publish(&self.producer);
        let stored = task::run_to_completion(async move {
            let result = published.await;
            let (correlation_id, company_id) = (trace.correlation_id(), company.id.0);
            let duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            match &result {
                Ok(()) => {
                    company.accepted.increment(1);
                    if let Some(kind) = unsupported {
                        counter!(metric::WEBHOOK_UNSUPPORTED, "kind" => kind.as_str()).increment(1);
                    }
                    tracing::info!(correlation_id, company_id, %event, status = 202, duration_us, "webhook accepted");
                }
                Err(problem) => {
                    reject(company_id, "not_durable");
                    tracing::warn!(
                        correlation_id, company_id, %event, status = 503, duration_us, class = problem.class(),
                        "webhook not stored"
                    );
                }
            }
            result.is_ok()
        });
        if stored.await { Ok(Accepted { event }) } else { Err(Unavailable::NotDurable.into()) }
    }
}

/// Refuses a body whose `Content-Length` is over the limit.
fn check_declared_length(limit: usize, headers: &HeaderMap) -> Result<(), Rejection> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) { Err(Rejection::TooLarge { limit }) } else { Ok(()) }
}

/// The whole body, if it is within the limits of size and time.
async fn read_body(body: Body, config: &crate::Config) -> Result<Bytes, Rejection> {
    let limit = config.body_limit_bytes;
    let whole = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(Duration::from_millis(config.body_timeout_ms), whole).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(problem)) if is_over_limit(&problem) => Err(Rejection::TooLarge { limit }),
        Ok(Err(_)) | Err(_) => Err(Rejection::Incomplete),
    }
}

/// Whether a body without a declared length grew past the limit, rather than ended early.
fn is_over_limit(problem: &axum::Error) -> bool {
    std::error::Error::source(problem).is_some_and(|it| it.is::<http_body_util::LengthLimitError>())
}

/// Counts and logs a refusal, and returns it.
fn refused(rejection: Rejection, company: Option<&Company>, head: &Parts, began: Instant) -> Rejection {
    let company = company.map_or(0, |it| it.id.0);
    reject(company, rejection.outcome());
    let correlation_id = head.extensions.get().map_or("", RequestId::as_str);
    let duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (status, reason) = (rejection.status().as_u16(), rejection.outcome());
    tracing::info!(correlation_id, company_id = company, status, reason, duration_us, "webhook rejected");
    rejection
}

fn reject(company: i64, reason: &'static str) {
    let label = if company == 0 { "unknown".to_owned() } else { metric::company_label(domain::CompanyId(company)) };
    counter!(metric::WEBHOOK_RECEIVED, "company" => label, "status" => "rejected").increment(1);
    counter!(metric::WEBHOOK_REJECTED, "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests {
    use platform::kafka;

    use super::*;

    #[tokio::test]
    async fn a_target_is_answered_as_the_router_would() {
        let readiness = Readiness::default();
        readiness.open();
        // Its companies were never loaded, so every webhook is refused with 503.
        let webhooks = Webhooks::from(Ingest {
            companies: Companies::default(),
            producer: Producer::with_short_timeout(&kafka::Config::default(), "test").unwrap(),
            config: crate::Config::default(),
            readiness,
        });
        let (router, ahead) = (routes(webhooks.clone()), WebhooksFirst::new(Some(webhooks), Router::new()));
        let cases = [
            ("POST", "/webhook/whaticket", 503),
            ("POST", "/webhook/whaticket?a=b", 503),
            ("POST", "http://clinica.test/webhook/whaticket", 503),
            ("POST", "/webhook/whaticket/", 404),
            ("POST", "//webhook/whaticket", 404),
            ("POST", "/webhook/%77haticket", 404),
            ("POST", "/webhook/Whaticket", 404),
            ("GET", "/webhook/whaticket", 405),
            ("HEAD", "/webhook/whaticket", 405),
            ("OPTIONS", "*", 404),
        ];
        for (method, target, status) in cases {
            let request = || Request::builder().method(method).uri(target).body(Body::from("{}")).unwrap();
            let (one, other) = (ahead.answer(request()).await, router.answer(request()).await);
            assert_eq!((one.status().as_u16(), other.status().as_u16()), (status, status), "{method} {target}");
            // The server itself writes the length of what it sends.
            for name in [header::ALLOW, header::CONTENT_TYPE, header::RETRY_AFTER] {
                assert_eq!(one.headers().get(&name), other.headers().get(&name), "{method} {target}: {name}");
            }
        }
    }
}
