//! The way of every provider request: fault → effect → log → wait → answer.
//!
//! Promise: the effect happens and stands in the log before the wait and the answer, as in the real services, which
//! finish a request whose caller has gone. Faults that mean "performed" run the same code as an undisturbed request.

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

use crate::faults::{Fault, Faults, Traits};
use crate::gemini;
use crate::journal::{Entry, Journal, Target};
use crate::server::Line;
use crate::settings::{Settings, SettingsChange};
use crate::webhooks::Receivers;
use crate::whaticket::Sessions;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// What an answer that is not JSON looks like: a proxy's page, cut by a byte that is not UTF-8 either.
const GARBAGE: &[u8] = b"<html><body>\xff\xfe upstream said what?</body>";

/// Everything one running sandbox knows.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) sessions: Sessions,
    pub(crate) receivers: Receivers,
    /// Texts generated so far; makes every `responseId` its own.
    pub(crate) generated: AtomicU64,
    pub(crate) stop: CancellationToken,
    settings: Mutex<Settings>,
}

impl Desk {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            faults: Faults::default(),
            journal: Journal::new(),
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

    /// Changes the figures named and returns them all.
    pub(crate) fn change(&self, change: SettingsChange) -> Settings {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        *settings = change.over(*settings);
        *settings
    }
}

/// What is known of a request before it is judged.
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
    /// Stamps a request that has just arrived. The one place where the sandbox reads the clock.
    #[expect(clippy::disallowed_methods, reason = "the sandbox stands outside: it knows nothing of platform::clock")]
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

    fn traits(&self) -> Traits<'_> {
        Traits {
            target: self.target,
            text: self.text.as_deref(),
            number: self.number.as_deref(),
            token: self.token.as_deref(),
            model: self.model.as_deref(),
        }
    }
}

/// What a provider does with a request, and says about it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) performed: bool,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The words in it, for the log.
    pub(crate) answer: Option<String>,
    /// A token issued, for the log.
    pub(crate) token: Option<String>,
}

impl Outcome {
    /// The effect took place.
    pub(crate) fn performed(body: &Value, answer: impl Into<String>) -> Self {
        Self { performed: true, answer: Some(answer.into()), ..Self::json(StatusCode::OK, body) }
    }

    /// The effect took place, and there is nothing to say about it.
    pub(crate) fn taken(status: StatusCode) -> Self {
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

/// Takes a request through. `perform` judges it and does what it asks, at most once, and only if no fault forbids it.
pub(crate) async fn exchange(
    desk: &Desk,
    line: &Line,
    request: Request,
    perform: impl FnOnce(&Request) -> Outcome,
) -> Response {
    let fault = desk.faults.take(request.traits());
    let fault_kind = fault.as_ref().map(Fault::kind);
    let course = Course::of(fault, desk.settings().latency(request.target), &request, perform);
    let seq = desk.journal.append(entry(request, fault_kind, &course.outcome));
    let pause = desk.stop.run_until_cancelled(tokio::time::sleep(course.wait));
    let stopped = !course.wait.is_zero() && pause.await.is_none();
    let ending = if stopped { Ending::Silence } else { course.ending };
    if ending != Ending::Silence {
        desk.journal.answered(seq, course.outcome.status.as_u16());
    }
    ending.respond(line, course.outcome)
}

/// What will happen to one request.
struct Course {
    outcome: Outcome,
    wait: Duration,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    Truncated,
    Silence,
}

impl Course {
    fn of(fault: Option<Fault>, usual: Duration, request: &Request, perform: impl FnOnce(&Request) -> Outcome) -> Self {
        let nothing = || Outcome::bytes(StatusCode::OK, HTML, Bytes::new());
        let whole = |outcome| Self { outcome, wait: usual, ending: Ending::Whole };
        match fault {
            None => whole(perform(request)),
            Some(Fault::Latency { ms }) => {
                Self { wait: usual.saturating_add(Duration::from_millis(ms)), ..whole(perform(request)) }
            }
            Some(Fault::Status { status, body, headers }) => whole(scripted_status(status, body, headers)),
            Some(Fault::Gemini429 { retry_delay_s, per_day }) => {
                let model = request.model.as_deref().unwrap_or_default();
                whole(gemini::quota_exhausted(model, retry_delay_s, per_day))
            }
            Some(Fault::Garbage) => {
                let Outcome { performed, answer, token, .. } = perform(request);
                let garbage = Outcome::bytes(StatusCode::OK, HTML, Bytes::from_static(GARBAGE));
                whole(Outcome { performed, answer, token, ..garbage })
            }
            Some(Fault::Truncated) => Self { ending: Ending::Truncated, ..whole(perform(request)) },
            Some(Fault::SilentSuccess) => Self { ending: Ending::Silence, ..whole(perform(request)) },
            Some(Fault::Hang { ms }) => {
                Self { outcome: nothing(), wait: Duration::from_millis(ms), ending: Ending::Silence }
            }
            Some(Fault::Drop) => Self { outcome: nothing(), wait: Duration::ZERO, ending: Ending::Silence },
            Some(Fault::Answer { body }) => {
                let said = gemini::words(&body);
                whole(Outcome { performed: true, answer: said, ..Outcome::json(StatusCode::OK, &body) })
            }
        }
    }
}

impl Ending {
    fn respond(self, line: &Line, outcome: Outcome) -> Response {
        let Outcome { status, mut headers, body, .. } = outcome;
        let body = match self {
            Self::Whole => Body::from(body),
            Self::Truncated => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len().max(2)));
                half_of(&body)
            }
            Self::Silence => {
                line.cut();
                Body::empty()
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// The first half, then an error that makes the server close the connection.
fn half_of(body: &Bytes) -> Body {
    let half = stream::iter([Ok(body.slice(..body.len() / 2))]);
    let broken = stream::once(async {
        // One turn of the scheduler lets the half reach the socket before the connection goes.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))
    });
    Body::from_stream(half.chain(broken))
}

fn scripted_status(status: u16, body: Value, headers: std::collections::BTreeMap<String, String>) -> Outcome {
    // `Faults::add` has refused what these conversions would not take.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answer = match &body {
        Value::String(text) => text.clone(),
        other => gemini::error_message(other).unwrap_or_else(|| other.to_string()),
    };
    let mut outcome = match body {
        Value::Null => Outcome::bytes(status, HTML, Bytes::new()),
        Value::String(text) => Outcome::bytes(status, HTML, Bytes::from(text)),
        json => Outcome::json(status, &json),
    };
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            outcome.headers.insert(name, value);
        }
    }
    Outcome { answer: Some(answer), ..outcome }
}

fn entry(request: Request, fault: Option<&'static str>, outcome: &Outcome) -> Entry {
    Entry {
        seq: 0,
        at: request.at,
        target: request.target,
        number: request.number,
        text: request.text,
        token: outcome.token.clone().or(request.token),
        model: request.model,
        status: None,
        fault,
        performed: outcome.performed,
        trace: request.trace,
        message_key: request.message_key,
        answer: outcome.answer.clone(),
    }
}
