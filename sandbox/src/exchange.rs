//! How every provider request is handled: fault → effect → log → wait → response.
//!
//! Promise: the effect happens and is in the log before the wait and the response, as in the real services, which
//! finish a request even if its caller has disconnected. Faults that perform the effect run the same code as a request
//! without a fault.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::faults::{Fault, Faults, RequestFields};
use crate::gemini;
use crate::request_log::{Entry, RequestLog, Target};
use crate::server::ConnectionHandle;
use crate::settings::{Settings, SettingsChange};
use crate::webhooks::Receivers;
use crate::whaticket::Sessions;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A response that is not JSON: a proxy's page, which is not valid UTF-8 either.
const GARBAGE: &[u8] = b"<html><body>\xff\xfe upstream said what?</body>";

/// The state of one running sandbox.
#[derive(Debug)]
pub(crate) struct SandboxState {
    pub(crate) faults: Faults,
    pub(crate) log: RequestLog,
    pub(crate) sessions: Sessions,
    pub(crate) receivers: Receivers,
    /// Texts generated so far; makes every `responseId` its own.
    pub(crate) generated: AtomicU64,
    pub(crate) stop: CancellationToken,
    settings: Mutex<Settings>,
}

impl SandboxState {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            faults: Faults::default(),
            log: RequestLog::new(),
            sessions: Sessions::default(),
            receivers: Receivers::default(),
            generated: AtomicU64::new(0),
            stop: CancellationToken::new(),
            settings: Mutex::new(settings),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the given settings and returns them all.
    pub(crate) fn change(&self, change: SettingsChange) -> Settings {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        *settings = change.over(*settings);
        *settings
    }
}

/// A request before it is validated.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) target: Target,
    /// Arrival, microseconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) number: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) model: Option<String>,
    trace: Option<String>,
    pub(crate) message_key: Option<String>,
}

impl Request {
    /// A request that has just arrived, with its time. The only place where the sandbox reads the clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the sandbox does not depend on our crates, so it has no platform::clock"
    )]
    pub(crate) fn arrived(target: Target, headers: &HeaderMap) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            target,
            at: Timestamp::now().as_microsecond(),
            number: None,
            text: None,
            token: None,
            model: None,
            trace: header("traceparent"),
            message_key: header("x-secretaria-delivery"),
        }
    }

    fn fields(&self) -> RequestFields<'_> {
        RequestFields {
            target: self.target,
            text: self.text.as_deref(),
            number: self.number.as_deref(),
            token: self.token.as_deref(),
            model: self.model.as_deref(),
        }
    }
}

/// What a provider did with a request, and what it responds.
#[derive(Debug)]
pub(crate) struct ProviderResponse {
    pub(crate) performed: bool,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The text in it, for the log.
    pub(crate) answer: Option<String>,
    /// A token issued, for the log.
    pub(crate) token: Option<String>,
}

impl ProviderResponse {
    /// The effect took place.
    pub(crate) fn performed(body: &Value, answer: impl Into<String>) -> Self {
        Self { performed: true, answer: Some(answer.into()), ..Self::json(StatusCode::OK, body) }
    }

    /// The effect took place, and the response has no body.
    pub(crate) fn accepted(status: StatusCode) -> Self {
        let headers = HeaderMap::new();
        Self { performed: true, status, headers, body: Bytes::new(), answer: None, token: None }
    }

    /// Nothing took place; `answer` is the provider's reason.
    pub(crate) fn refused(status: StatusCode, body: &Value, answer: impl Into<String>) -> Self {
        Self { answer: Some(answer.into()), ..Self::json(status, body) }
    }

    fn json(status: StatusCode, body: &Value) -> Self {
        Self::bytes(status, JSON, Bytes::from(body.to_string()))
    }

    fn bytes(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Self { performed: false, status, headers, body, answer: None, token: None }
    }
}

/// Handles a request. `perform` validates it and performs its effect; it is called at most once, and not at all if the
/// fault excludes it.
pub(crate) async fn exchange(
    state: &SandboxState,
    connection: &ConnectionHandle,
    request: Request,
    perform: impl FnOnce(&Request) -> ProviderResponse,
) -> Response {
    let fault = state.faults.take(request.fields());
    let fault_kind = fault.as_ref().map(Fault::kind);
    let planned = PlannedResponse::of(fault, state.settings().latency(request.target), &request, perform);
    let seq = state.log.append(entry(request, fault_kind, &planned.response));
    let pause = state.stop.run_until_cancelled(tokio::time::sleep(planned.wait));
    let stopped = !planned.wait.is_zero() && pause.await.is_none();
    let mode = if stopped { ResponseMode::None } else { planned.mode };
    if mode != ResponseMode::None {
        state.log.answered(seq, planned.response.status.as_u16());
    }
    mode.into_http(connection, planned.response)
}

/// The response to one request, and how and when it is sent.
struct PlannedResponse {
    response: ProviderResponse,
    wait: Duration,
    mode: ResponseMode,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseMode {
    Complete,
    Truncated,
    /// The connection closes without a byte of response.
    None,
}

impl PlannedResponse {
    fn of(
        fault: Option<Fault>,
        usual: Duration,
        request: &Request,
        perform: impl FnOnce(&Request) -> ProviderResponse,
    ) -> Self {
        let nothing = || ProviderResponse::bytes(StatusCode::OK, HTML, Bytes::new());
        let complete = |response| Self { response, wait: usual, mode: ResponseMode::Complete };
        match fault {
            None => complete(perform(request)),
            Some(Fault::Latency { ms }) => {
                Self { wait: usual.saturating_add(Duration::from_millis(ms)), ..complete(perform(request)) }
            }
            Some(Fault::Status { status, body, headers }) => complete(scripted_status(status, body, headers)),
            Some(Fault::Gemini429 { retry_delay_s, per_day }) => {
                let model = request.model.as_deref().unwrap_or_default();
                complete(gemini::quota_exhausted(model, retry_delay_s, per_day))
            }
            Some(Fault::Garbage) => {
                let ProviderResponse { performed, answer, token, .. } = perform(request);
                let garbage = ProviderResponse::bytes(StatusCode::OK, HTML, Bytes::from_static(GARBAGE));
                complete(ProviderResponse { performed, answer, token, ..garbage })
            }
            Some(Fault::Truncated) => Self { mode: ResponseMode::Truncated, ..complete(perform(request)) },
            Some(Fault::SilentSuccess) => Self { mode: ResponseMode::None, ..complete(perform(request)) },
            Some(Fault::Hang { ms }) => {
                Self { response: nothing(), wait: Duration::from_millis(ms), mode: ResponseMode::None }
            }
            Some(Fault::Drop) => Self { response: nothing(), wait: Duration::ZERO, mode: ResponseMode::None },
            Some(Fault::Answer { body }) => {
                let text = gemini::text(&body);
                complete(ProviderResponse {
                    performed: true,
                    answer: text,
                    ..ProviderResponse::json(StatusCode::OK, &body)
                })
            }
        }
    }
}

impl ResponseMode {
    fn into_http(self, connection: &ConnectionHandle, response: ProviderResponse) -> Response {
        let ProviderResponse { status, mut headers, body, .. } = response;
        let body = match self {
            Self::Complete => Body::from(body),
            Self::Truncated => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len().max(2)));
                half_of(&body)
            }
            Self::None => {
                connection.abort();
                Body::empty()
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// The first half, then an error, at which the server closes the connection.
fn half_of(body: &Bytes) -> Body {
    let half = stream::iter([Ok(body.slice(..body.len() / 2))]);
    let broken = stream::once(async {
        // Yielding once lets the half reach the socket before the connection is closed.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))
    });
    Body::from_stream(half.chain(broken))
}

fn scripted_status(status: u16, body: Value, headers: std::collections::BTreeMap<String, String>) -> ProviderResponse {
    // `Faults::add` has refused values for which these conversions fail.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answer = match &body {
        Value::String(text) => text.clone(),
        other => gemini::error_message(other).unwrap_or_else(|| other.to_string()),
    };
    let mut response = match body {
        Value::Null => ProviderResponse::bytes(status, HTML, Bytes::new()),
        Value::String(text) => ProviderResponse::bytes(status, HTML, Bytes::from(text)),
        json => ProviderResponse::json(status, &json),
    };
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers.insert(name, value);
        }
    }
    ProviderResponse { answer: Some(answer), ..response }
}

fn entry(request: Request, fault: Option<&'static str>, response: &ProviderResponse) -> Entry {
    Entry {
        seq: 0,
        at: request.at,
        target: request.target,
        number: request.number,
        text: request.text,
        token: response.token.clone().or(request.token),
        model: request.model,
        status: None,
        fault,
        performed: response.performed,
        trace: request.trace,
        message_key: request.message_key,
        answer: response.answer.clone(),
    }
}
