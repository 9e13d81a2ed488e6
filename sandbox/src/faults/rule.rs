//! Fault rules: which request, how often, which fault. The JSON of the control API.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request_log::Target;

/// What happens to a request. In JSON `kind` is its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// The usual response, but late. The effect is performed at once, so for a caller that times out the outcome is unknown.
    Latency {
        /// Milliseconds on top of the usual latency.
        ms: u64,
    },
    /// Responds with this status; nothing is performed.
    Status {
        /// HTTP status, 200 to 999.
        status: u16,
        /// A string is sent as it is (`text/html`, as from a proxy), any other JSON as `application/json`. Absent: empty.
        #[serde(default)]
        body: Value,
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Gemini's `429 RESOURCE_EXHAUSTED` with `QuotaFailure` and `RetryInfo`; nothing is performed.
    #[serde(rename = "gemini_429")]
    Gemini429 {
        /// Seconds in `RetryInfo.retryDelay`; may be fractional.
        retry_delay_s: f64,
        /// True: the daily quota is exhausted, so a retry after a minute does not help.
        #[serde(default)]
        per_day: bool,
    },
    /// Performed, then `200` with bytes that are not JSON.
    Garbage,
    /// Performed, then half of the response with a `content-length` for all of it, then the connection closes.
    Truncated,
    /// Not performed and not answered; the connection closes after `ms`.
    Hang {
        #[serde(default = "two_minutes")]
        ms: u64,
    },
    /// Performed and logged as such, then the connection closes without a byte of response.
    SilentSuccess,
    /// Neither performed nor answered: the connection closes at once.
    Drop,
    /// `200` with this JSON body, for model responses that cannot be produced on demand, such as a blocked prompt.
    Answer {
        /// The body, as the provider would write it.
        body: Value,
    },
}

impl Fault {
    /// The `kind` it has in JSON and in the log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Status { .. } => "status",
            Self::Gemini429 { .. } => "gemini_429",
            Self::Garbage => "garbage",
            Self::Truncated => "truncated",
            Self::Hang { .. } => "hang",
            Self::SilentSuccess => "silent_success",
            Self::Drop => "drop",
            Self::Answer { .. } => "answer",
        }
    }
}

/// Which requests a rule applies to. An absent field means any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Part of the message sent, of the user's latest messages to the model, of the e-mail of a login, or of a webhook.
    pub text: Option<String>,
    /// The whole number a message goes to, or the whole name of a webhook's receiver.
    pub number: Option<String>,
    /// The whole bearer token or API key.
    pub token: Option<String>,
    /// The whole model name.
    pub model: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Which endpoint it applies to.
    pub target: Target,
    /// Which of its requests.
    #[serde(rename = "match", default)]
    pub matching: Match,
    /// How many requests it affects.
    #[serde(default = "once")]
    pub times: u32,
    /// How many matching requests it lets pass first.
    #[serde(default)]
    pub skip: u32,
    pub fault: Fault,
}

impl FaultRule {
    /// Applies to the next request to `target`, once.
    #[must_use]
    pub fn new(target: Target, fault: Fault) -> Self {
        Self { target, matching: Match::default(), times: 1, skip: 0, fault }
    }

    /// Only requests whose text contains `part`.
    #[must_use]
    pub fn text(mut self, part: impl Into<String>) -> Self {
        self.matching.text = Some(part.into());
        self
    }

    /// Only messages to `number`, or webhooks to the receiver of that name.
    #[must_use]
    pub fn number(mut self, number: impl Into<String>) -> Self {
        self.matching.number = Some(number.into());
        self
    }

    /// Only requests with this bearer token or API key.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.matching.token = Some(token.into());
        self
    }

    /// Only calls of this model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.matching.model = Some(model.into());
        self
    }

    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Lets `skip` matching requests pass first.
    #[must_use]
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }
}

/// Why a rule was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleRefused {
    #[error("there are already {0} fault rules; clear them first")]
    Full(usize),
    /// `status.status` is not a final status.
    #[error("{0} is not a final http status (200 to 999)")]
    Status(u16),
    /// `status.headers` contains an invalid header.
    #[error("{0:?} is not an http header")]
    Header(String),
}

/// The fields of a request that a rule matches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestFields<'a> {
    pub(crate) target: Target,
    pub(crate) text: Option<&'a str>,
    pub(crate) number: Option<&'a str>,
    pub(crate) token: Option<&'a str>,
    pub(crate) model: Option<&'a str>,
}

impl FaultRule {
    pub(super) fn matches(&self, request: RequestFields<'_>) -> bool {
        let Match { text, number, token, model } = &self.matching;
        let whole =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        self.target == request.target
            && text.as_deref().is_none_or(|part| request.text.is_some_and(|text| text.contains(part)))
            && whole(number, request.number)
            && whole(token, request.token)
            && whole(model, request.model)
    }
}

/// Refuses a status or headers that are not valid in HTTP.
pub(super) fn check(fault: &Fault) -> Result<(), RuleRefused> {
    let Fault::Status { status, headers, .. } = fault else {
        return Ok(());
    };
    // A 1xx is not final: the client would keep waiting.
    if *status < 200 || StatusCode::from_u16(*status).is_err() {
        return Err(RuleRefused::Status(*status));
    }
    for (name, value) in headers {
        if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
            return Err(RuleRefused::Header(name.clone()));
        }
    }
    Ok(())
}

fn once() -> u32 {
    1
}

fn two_minutes() -> u64 {
    120_000
}
