//! Gemini's `generateContent`, unary: one prompt, and one answer or error.
//!
//! It takes no longer than the given deadline and makes at most `attempts` calls, each of which is reported, because
//! each may be billed. The key is sent in a header only, and neither key nor text is logged or kept in an error. Safe
//! to repeat, since nothing is sent to a contact here; a repeat costs tokens again.

mod answer;
mod error;
mod tokens;
mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use platform::egress::{self, BodyError};
use platform::secret::SecretText;
use platform::{clock, settings};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use answer::Completeness;
pub(crate) use answer::ModelAnswer;
pub(crate) use error::ModelError;
pub(crate) use tokens::Tokens;

use super::prompt::Prompt;
use error::RetryAdvice;

/// No answer of a few sentences is larger.
const MAX_BODY_BYTES: usize = 1024 * 1024;
const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// How the model is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The API's URL, without `/v1beta`.
    pub base_url: String,
    pub model: String,
    pub api_key: SecretText,
    pub timeout_ms: u64,
    /// 0 to 2; lower is more predictable.
    pub temperature: f32,
    /// Tokens an answer may have. A thinking model's thoughts count too, so this leaves space for them.
    pub max_output_tokens: u32,
    /// Tokens for thoughts: 0 turns them off where the model allows it; absent leaves it to the model.
    pub thinking_budget: Option<i32>,
    /// Calls for one answer at most.
    pub attempts: usize,
    /// The first wait between calls; each further one doubles, with jitter.
    pub backoff_ms: u64,
    /// The longest wait between calls, before jitter.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            base_url: "https://generativelanguage.googleapis.com".into(),
            model: "gemini-2.5-flash".into(),
            api_key: SecretText::default(),
            timeout_ms: 20_000,
            temperature: 0.3,
            max_output_tokens: 2_048,
            thinking_budget: None,
            attempts: 3,
            backoff_ms: 500,
            backoff_max_ms: 8_000,
        }
    }
}

impl Config {
    /// Checks the values; the key is required.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        let key = self.api_key.expose();
        if key.is_empty() || HeaderValue::from_str(key).is_err() {
            let problem = "must hold the provider's key, on one line";
            return Err(settings::Error::invalid("reply.model.api_key", problem));
        }
        self.validate_shape()
    }

    /// Checks everything but the key, which only a process that calls the model needs.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate_shape(&self) -> Result<(), settings::Error> {
        if egress::endpoint(&self.base_url, "").is_none() {
            let problem = "must be an http or https URL without a query";
            return Err(settings::Error::invalid("reply.model.base_url", problem));
        }
        if self.model.is_empty() || !self.model.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it)) {
            return Err(settings::Error::invalid(
                "reply.model.model",
                "must be a model's name, such as gemini-2.5-flash",
            ));
        }
        if self.timeout_ms == 0 {
            return Err(settings::Error::invalid("reply.model.timeout_ms", "must be at least 1"));
        }
        if self.max_output_tokens == 0 {
            return Err(settings::Error::invalid("reply.model.max_output_tokens", "must be at least 1"));
        }
        if !(1..=10).contains(&self.attempts) {
            return Err(settings::Error::invalid("reply.model.attempts", "must be between 1 and 10"));
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(settings::Error::invalid("reply.model.temperature", "must be between 0 and 2"));
        }
        Ok(())
    }

    fn url(&self) -> String {
        format!("{}/v1beta/models/{}:generateContent", self.base_url.trim_end_matches('/'), self.model)
    }
}

/// A Gemini client; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: reqwest::Url,
    /// They include the key.
    headers: HeaderMap,
    config: Config,
}

/// One call, for metering and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallReport {
    /// The model that answered, else the one that was called.
    pub(crate) model: String,
    /// From the request's first byte to the answer's last.
    pub(crate) latency: Duration,
    /// The class of its error; `None` for an answer.
    pub(crate) failure: Option<&'static str>,
    /// Tokens used, also without an answer; `None` if the provider did not report them.
    pub(crate) tokens: Option<Tokens>,
}

impl Client {
    /// Makes no request.
    ///
    /// # Errors
    /// If the HTTP client cannot start, or a request cannot be built from key and URL: see [`Config::validate`].
    pub(crate) fn new(config: &Config) -> Result<Self, reqwest::Error> {
        let http = egress::client().build()?;
        let empty = http
            .post(config.url())
            .header(API_KEY, config.api_key.expose())
            .header(CONTENT_TYPE, "application/json")
            .build()?;
        let (url, mut headers) = (empty.url().clone(), empty.headers().clone());
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        Ok(Client { http, url, headers, config: config.clone() })
    }

    /// Calls until there is an answer, an error that a repeat does not cure, or no attempt or time left of `within`.
    /// Also returns a report of every call, in order.
    ///
    /// If a wait would end after the limit, the error is returned at once. Dropping the future loses the reports.
    pub(crate) async fn generate(
        &self,
        prompt: &Prompt,
        within: Duration,
        traceparent: Option<&str>,
    ) -> (Result<ModelAnswer, ModelError>, Vec<CallReport>) {
        let begun = clock::instant();
        let mut calls = Vec::new();
        let body = match serde_json::to_vec(&wire::GenerateRequest::of(prompt, &self.config)) {
            Ok(body) if !within.is_zero() => Bytes::from(body),
            // Text always serializes, so only the time can be missing.
            _ => return (Err(ModelError::NoTimeLeft), calls),
        };
        let mut pauses = self.pauses();
        loop {
            let left = within.saturating_sub(begun.elapsed());
            let (outcome, report) = self.call(&body, traceparent, left).await;
            calls.push(report);
            let error = match outcome {
                Ok(answer) => return (Ok(answer), calls),
                Err(error) => error,
            };
            let left = within.saturating_sub(begun.elapsed());
            let Some(pause) = pauses.next().and_then(|usual| pause(&error, usual)).filter(|it| *it < left) else {
                return (Err(error), calls);
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn call(
        &self,
        body: &Bytes,
        traceparent: Option<&str>,
        left: Duration,
    ) -> (Result<ModelAnswer, ModelError>, CallReport) {
        let begun = clock::instant();
        let outcome = self.exchange(body, traceparent, left.min(Duration::from_millis(self.config.timeout_ms))).await;
        let (failure, tokens) = match &outcome {
            Ok(answer) => (None, answer.tokens),
            Err(error) => (Some(error.class()), error.tokens()),
        };
        let model = outcome.as_ref().map_or(&self.config.model, |answer| &answer.model).clone();
        let report = CallReport { model, latency: begun.elapsed(), failure, tokens };
        (outcome, report)
    }

    async fn exchange(
        &self,
        body: &Bytes,
        traceparent: Option<&str>,
        timeout: Duration,
    ) -> Result<ModelAnswer, ModelError> {
        let request =
            self.http.post(self.url.clone()).headers(self.headers.clone()).body(body.clone()).timeout(timeout);
        let response = egress::exchange(egress::traced(request, traceparent), MAX_BODY_BYTES)
            .await
            .map_err(ModelError::Transport)?;
        let body = response.body.map_err(|error| match error {
            BodyError::TooLarge => ModelError::Garbage { status: response.status },
            BodyError::Transport(error) => ModelError::Transport(error),
        })?;
        answer::read_answer(&self.config.model, response.status, response.retry_after, &body)
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(self.config.backoff_ms))
            .with_max_delay(Duration::from_millis(self.config.backoff_max_ms))
            .with_max_times(self.config.attempts.saturating_sub(1))
            .with_jitter()
            .build()
    }
}

fn pause(error: &ModelError, usual: Duration) -> Option<Duration> {
    match error.retry() {
        RetryAdvice::No => None,
        RetryAdvice::After(wait) => Some(wait),
        RetryAdvice::Backoff => Some(usual),
    }
}
