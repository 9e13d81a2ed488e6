//! How a model call can fail, the class for metrics, and whether a repeat may succeed.
//!
//! No text of the provider is kept: Google's messages can quote the key.

use std::time::Duration;

use platform::egress::TransportError;
use platform::queue::Health;

use super::tokens::Tokens;

/// Why a model call, or all calls of a turn, gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// A filter stopped the prompt or the answer; a partial answer must not be sent.
    #[error("the model withheld its answer: {reason}")]
    Blocked {
        /// The provider's name for it, or `unknown`.
        reason: &'static str,
        /// The tokens it used nevertheless.
        tokens: Option<Tokens>,
    },
    /// An answer without text.
    #[error("the model answered without text: {finish}")]
    Empty {
        /// Why it stopped, as the provider names it, or `unknown`.
        finish: &'static str,
        /// The tokens it used nevertheless.
        tokens: Option<Tokens>,
    },
    /// The daily quota is used up; a wait within a turn does not help.
    #[error("the model's daily quota is used up")]
    QuotaDay,
    /// Too many calls at the moment.
    #[error("the model is called too often")]
    RateLimited {
        /// The wait the provider asks for.
        after: Option<Duration>,
    },
    /// The provider refuses this call, however often it is made.
    #[error("the model's provider refuses the call with {status}")]
    Refused {
        status: u16,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The provider has a problem of its own.
    #[error("the model is unavailable: {status}")]
    Unavailable {
        status: u16,
        /// The wait the provider asks for.
        after: Option<Duration>,
    },
    /// The response is no answer of this API.
    #[error("the model's response with status {status} cannot be read")]
    Garbage { status: u16 },
    #[error("the model did not answer")]
    Transport(#[source] TransportError),
    /// The deadline had passed before the first call.
    #[error("no time is left to call the model")]
    NoTimeLeft,
}

/// What is wrong with a refused call. `Key` and `Model` are faults of our configuration, not of this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The key is wrong, suspended or not allowed to do this.
    Key,
    /// There is no such model.
    Model,
    Request,
}

/// Whether and when to repeat a call.
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

    /// What it means for the circuit of the provider and the key.
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

    pub(crate) fn retry(&self) -> RetryAdvice {
        match self {
            // A repeat would use up the output tokens again; other empty answers occur now and then.
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

    /// The tokens that were used although there is no answer.
    pub(crate) fn tokens(&self) -> Option<Tokens> {
        match self {
            ModelError::Blocked { tokens, .. } | ModelError::Empty { tokens, .. } => *tokens,
            _ => None,
        }
    }
}
