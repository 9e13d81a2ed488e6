//! Every way a model call can fail, its bounded class for metrics, and whether asking again makes sense.
//!
//! No text of the provider is kept: Google's messages have been seen quoting the key.

use std::time::Duration;

use platform::egress::TransportError;
use platform::queue::Health;

use super::answer::Tokens;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// The prompt or the answer met a filter; a part of an answer may exist and must not be sent.
    #[error("the model withheld its answer: {reason}")]
    Blocked {
        /// The provider's name for it, or `unknown`.
        reason: &'static str,
        /// What it cost all the same.
        tokens: Option<Tokens>,
    },
    /// An answer without a word in it.
    #[error("the model answered without text: {finish}")]
    Empty {
        /// Why it stopped, as the provider names it, or `unknown`.
        finish: &'static str,
        /// What it cost all the same.
        tokens: Option<Tokens>,
    },
    /// The quota of the day is spent; no wait within a turn cures it.
    #[error("the model's daily quota is spent")]
    QuotaDay,
    /// Too many calls just now.
    #[error("the model is called too often")]
    RateLimited {
        /// The wait the provider asks for.
        after: Option<Duration>,
    },
    /// The provider will not take this call, however often it is made.
    #[error("the model's provider refuses the call with {status}")]
    Refused {
        status: u16,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The provider has trouble of its own.
    #[error("the model is unavailable: {status}")]
    Unavailable {
        status: u16,
        /// The wait the provider asks for.
        after: Option<Duration>,
    },
    /// The answer is not one.
    #[error("the model's answer with status {status} cannot be read")]
    Garbage { status: u16 },
    #[error("the model did not answer")]
    Transport(#[source] TransportError),
    /// The deadline had passed before the first call.
    #[error("no time is left to ask the model")]
    NoTimeLeft,
}

/// What is wrong with a call that is refused. The first two are our configuration, not this turn's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The key is wrong, suspended or not allowed to do this.
    Key,
    /// There is no such model.
    Model,
    Request,
}

/// Whether and when the call is worth repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryAdvice {
    No,
    /// After the wait the provider asked for.
    After(Duration),
    /// After the usual backoff.
    Backoff,
}

impl ModelError {
    /// One of a fixed set of names, for metrics.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            ModelError::Blocked { .. } => "blocked",
            ModelError::Empty { .. } => "empty",
            ModelError::QuotaDay => "quota_day",
            ModelError::RateLimited { .. } => "rate_limited",
            ModelError::Refused { refusal: Refusal::Key, .. } => "key_refused",
            ModelError::Refused { refusal: Refusal::Model, .. } => "model_unknown",
            ModelError::Refused { refusal: Refusal::Request, .. } => "request_refused",
            ModelError::Unavailable { .. } => "unavailable",
            ModelError::Garbage { .. } => "garbage",
            ModelError::Transport(TransportError::ConnectionLost(_)) => "broken",
            ModelError::Transport(error) => error.class(),
            ModelError::NoTimeLeft => "no_time_left",
        }
    }

    /// What it says of the provider, and of the key that it was asked with.
    pub(crate) fn health(&self) -> Health {
        match self {
            ModelError::QuotaDay
            | ModelError::RateLimited { .. }
            | ModelError::Refused { refusal: Refusal::Key | Refusal::Model, .. }
            | ModelError::Unavailable { .. }
            | ModelError::Transport(_) => Health::Failing,
            ModelError::Blocked { .. }
            | ModelError::Empty { .. }
            | ModelError::Garbage { .. }
            | ModelError::Refused { refusal: Refusal::Request, .. } => Health::Healthy,
            ModelError::NoTimeLeft => Health::Unclear,
        }
    }

    /// Whether and when to ask again.
    pub(crate) fn retry(&self) -> RetryAdvice {
        match self {
            // A spent output budget is spent again; other empty answers are a known whim of the provider.
            ModelError::Empty { finish: "MAX_TOKENS", .. } => RetryAdvice::No,
            ModelError::Empty { .. } => RetryAdvice::Backoff,
            ModelError::RateLimited { after: Some(wait) } | ModelError::Unavailable { after: Some(wait), .. } => {
                RetryAdvice::After(*wait)
            }
            ModelError::RateLimited { after: None } | ModelError::Unavailable { after: None, .. } => {
                RetryAdvice::Backoff
            }
            ModelError::Garbage { .. } | ModelError::Transport(_) => RetryAdvice::Backoff,
            ModelError::Blocked { .. } | ModelError::QuotaDay | ModelError::Refused { .. } | ModelError::NoTimeLeft => {
                RetryAdvice::No
            }
        }
    }

    /// Tokens that were spent although there is no answer.
    pub(crate) fn tokens(&self) -> Option<Tokens> {
        match self {
            ModelError::Blocked { tokens, .. } | ModelError::Empty { tokens, .. } => *tokens,
            _ => None,
        }
    }
}
