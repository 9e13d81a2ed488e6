//! `POST /webhook/whaticket` — accept one webhook, or say precisely why not.
//!
//! Promise: a 202 means the fact is on every in-sync replica. No other work happens in this room. Cheap refusals come
//! first: what the headers alone can settle is settled before the body is read, and nothing of a body is understood
//! before its sender is known.

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
use crate::publish::{self, Ready};
use crate::rejection::{Rejection, Unavailable};
use crate::signature::{Claim, IDEMPOTENCY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, TOKEN_HEADER};

/// What accepting a hook needs.
#[derive(Clone)]
pub struct Ingest {
    pub companies: Companies,
    pub producer: Producer,
    pub config: crate::Config,
    /// Whether this process still takes hooks.
    pub readiness: Readiness,
}

const PATH: &str = "/webhook/whaticket";

/// The route as the router knows it, for what is no webhook: another method.
fn routes(webhooks: Webhooks) -> Router {
    // Bodies are capped where they are read, so that the refusal is ours.
    Router::new().route(PATH, post(answer)).layer(DefaultBodyLimit::disable()).with_state(webhooks)
}

/// Answers webhooks. Latencies are measured by the recorder that was installed when it was made.
#[derive(Clone)]
pub struct Webhooks(Arc<Handler>);

/// The recorder is not asked for the histogram at each webhook.
struct Handler {
    ingest: Ingest,
    latency: Histogram,
}

impl From<Ingest> for Webhooks {
    fn from(ingest: Ingest) -> Self {
        Webhooks(Arc::new(Handler { ingest, latency: histogram!(metric::WEBHOOK_LATENCY) }))
    }
}

/// The routes of a process, with its webhooks answered ahead of the router, which costs a webhook a lookup, a boxed service
/// and two boxed futures.
#[derive(Clone)]
pub struct WebhooksFirst {
    webhooks: Option<Webhooks>,
    routes: Router,
}

impl WebhooksFirst {
    /// The other routes of a process, and webhooks where it takes them.
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

/// A hook that is durable.
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
    // What the headers alone can settle, before a byte of the body is waited for.
    keeps_within(ingest.config.body_limit_bytes, headers).map_err(|it| refuse(it, None))?;
    let company = ingest.companies.named_by(headers).map_err(|it| refuse(it.into(), None))?;
    let claim = Claim::read(bytes(headers, TIMESTAMP_HEADER), bytes(headers, SIGNATURE_HEADER), clock::now())
        .map_err(|it| refuse(it, Some(&company)))?;
    let body = read(body, &ingest.config).await.map_err(|it| refuse(it, None))?;
    match examine(&company, claim, headers, &body) {
        Ok(examined) => ingest.store(company, examined, began).await,
        Err(rejection) => Err(refuse(rejection, Some(&company))),
    }
}

fn bytes<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(|it| it.as_bytes())
}

/// A hook that may be stored.
struct Examined {
    event: EventId,
    trace: Traceparent,
    ready: Ready,
    unsupported: Option<UnsupportedKind>,
}

/// From bytes to a record, without waiting for anything.
fn examine(company: &Company, claim: Claim<'_>, headers: &HeaderMap, body: &[u8]) -> Result<Examined, Rejection> {
    let now = clock::now();
    let text = |name| headers.get(name).and_then(|it: &axum::http::HeaderValue| it.to_str().ok());
    let proof = claim.verify(&company.secrets, body, now)?; // The raw bytes, before any parsing.
    company.token.as_ref().map_or(Ok(()), |token| token.verify(bytes(headers, TOKEN_HEADER)))?;
    let parsed = parse::whaticket(body, now)?; // Pure: bytes to event.
    let event = publish::identify(company, &parsed.message, bytes(headers, IDEMPOTENCY_HEADER), &proof);
    let trace = text("traceparent").and_then(Traceparent::parse).unwrap_or_else(|| Traceparent::of_event(event));
    let instants = (parsed.occurred_at, now);
    let ready = publish::prepare(company, event, parsed.message, instants, &trace, &proof)
        .map_err(|_| Unavailable::NotDurable)?;
    Ok(Examined { event, trace, ready, unsupported: parsed.unsupported })
}

impl Ingest {
    /// Waits for the broker's word; a hang-up does not cancel it.
    async fn store(&self, company: Arc<Company>, examined: Examined, began: Instant) -> Result<Accepted, Rejection> {
        let Examined { event, trace, ready, unsupported } = examined;
        let published = ready.publish(&self.producer);
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
                    tracing::info!(correlation_id, company_id, %event, status = 202, duration_us, "hook accepted");
                }
                Err(problem) => {
                    reject(company_id, "not_durable");
                    tracing::warn!(
                        correlation_id, company_id, %event, status = 503, duration_us, class = problem.class(),
                        "hook is not durable"
                    );
                }
            }
            result.is_ok()
        });
        if stored.await { Ok(Accepted { event }) } else { Err(Unavailable::NotDurable.into()) }
    }
}

/// Refuses a body that says itself that it is over the cap.
fn keeps_within(limit: usize, headers: &HeaderMap) -> Result<(), Rejection> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) { Err(Rejection::TooLarge { limit }) } else { Ok(()) }
}

/// The whole body, if it keeps within its size and its time.
async fn read(body: Body, config: &crate::Config) -> Result<Bytes, Rejection> {
    let limit = config.body_limit_bytes;
    let whole = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(Duration::from_millis(config.body_timeout_ms), whole).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(problem)) if over_the_cap(&problem) => Err(Rejection::TooLarge { limit }),
        Ok(Err(_)) | Err(_) => Err(Rejection::Incomplete),
    }
}

/// A body without a declared length that grows past the cap, rather than one that broke off.
fn over_the_cap(problem: &axum::Error) -> bool {
    std::error::Error::source(problem).is_some_and(|it| it.is::<http_body_util::LengthLimitError>())
}

/// Counts and logs a refusal, and passes it on.
fn refused(rejection: Rejection, company: Option<&Company>, head: &Parts, began: Instant) -> Rejection {
    let company = company.map_or(0, |it| it.id.0);
    reject(company, rejection.outcome());
    let correlation_id = head.extensions.get().map_or("", RequestId::as_str);
    let duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (status, reason) = (rejection.status().as_u16(), rejection.outcome());
    tracing::info!(correlation_id, company_id = company, status, reason, duration_us, "hook rejected");
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
