//! What to do with a message, and how a turn ends. No I/O, no clock, no chance.

use domain::{Fact, IgnoreReason, InboundMessage};

use super::gemini::{Answer, CallReport, Failure};

/// WhatsApp's own limit for a text message; an answer of a few sentences is far below it.
const MOST_CHARS: usize = 4_096;

/// How a company stands, as far as answering goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompanyStatus {
    /// Served.
    Active,
    /// Not served.
    Suspended,
}

/// What becomes of a message that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It joins a turn.
    Collect,
    /// Nobody answers it.
    Ignore(IgnoreReason),
}

/// Cheap guards first; what the message's own shape says comes before anything about the company.
pub(super) fn on_message(message: &InboundMessage, company: Option<CompanyStatus>) -> Step {
    match (message.ignore, company) {
        (Some(reason), _) => Step::Ignore(reason),
        (None, Some(CompanyStatus::Suspended)) => Step::Ignore(IgnoreReason::CompanyInactive),
        // An unknown company is refused by the tables themselves and ends on the shelf.
        (None, Some(CompanyStatus::Active) | None) => Step::Collect,
    }
}

/// How a turn ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ending {
    /// In one word.
    pub(super) outcome: Outcome,
    /// What is sent, if anything.
    pub(super) text: Option<String>,
    /// What the model calls used.
    pub(super) tokens: Vec<Fact>,
}

/// The outcomes of a turn; each turn has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The model's answer is sent.
    Replied,
    /// A text of ours is sent instead, because of this class of failure or refusal.
    Fallback(&'static str),
    /// Nothing is sent.
    Ignored(IgnoreReason),
}

impl Outcome {
    /// The name in `turns.outcome`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Outcome::Replied => "replied",
            Outcome::Fallback(_) => "fallback",
            Outcome::Ignored(_) => "ignored",
        }
    }

    /// The name in `turns.reason`.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Outcome::Replied => None,
            Outcome::Fallback(class) => Some(class),
            Outcome::Ignored(reason) => Some(reason.as_str()),
        }
    }
}

impl Ending {
    /// Says a text of ours, without a model call.
    fn with_our_text(class: &'static str, text: &str) -> Self {
        Ending { outcome: Outcome::Fallback(class), text: Some(text.to_owned()), tokens: Vec::new() }
    }
}

/// Ends a turn with what the model said, or with the fallback: a contact is never left without a word.
pub(super) fn on_answer(answer: Result<Answer, Failure>, calls: &[CallReport], fallback: &str) -> Ending {
    let tokens = calls.iter().filter_map(used).collect();
    let (outcome, text) = match answer {
        Ok(answer) => (Outcome::Replied, sayable(&answer.text)),
        Err(failure) => (Outcome::Fallback(failure.class()), fallback.to_owned()),
    };
    Ending { outcome, text: Some(text), tokens }
}

/// A company that may not ask the model: at its limit a text says so, for any other reason the usual fallback does.
pub(super) fn on_denial(reason: &str, at_limit: &str, fallback: &str) -> Ending {
    match reason {
        "usage_limit_reached" => Ending::with_our_text("usage_limit_reached", at_limit),
        "no_subscription" => Ending::with_our_text("no_subscription", fallback),
        "subscription_inactive" => Ending::with_our_text("subscription_inactive", fallback),
        "trial_expired" => Ending::with_our_text("trial_expired", fallback),
        _ => Ending::with_our_text("feature_unavailable", fallback),
    }
}

/// As much as one message holds. Postgres holds no NUL in text, and no phone shows one.
fn sayable(text: &str) -> String {
    text.chars().filter(|it| *it != '\0').take(MOST_CHARS).collect()
}

/// An answer that the database refuses to hold is not sent; what it used stays used.
pub(super) fn on_refusal(refused: Ending, fallback: &str) -> Ending {
    Ending { outcome: Outcome::Fallback("refused_by_database"), text: Some(fallback.to_owned()), ..refused }
}

/// A turn that was claimed again and again without coming to an end.
pub(super) fn on_exhaustion(fallback: &str) -> Ending {
    Ending::with_our_text("too_many_claims", fallback)
}

/// A company that was suspended while a turn was collecting gets no model call.
pub(super) fn on_suspension() -> Ending {
    let outcome = Outcome::Ignored(IgnoreReason::CompanyInactive);
    Ending { outcome, text: None, tokens: Vec::new() }
}

/// A call is metered when the provider said what it used, whether or not the answer was of use: it is billed.
fn used(call: &CallReport) -> Option<Fact> {
    let tokens = call.tokens?;
    Some(Fact::ModelTokens {
        model: call.model.clone(),
        input: tokens.input,
        output: tokens.output,
        cached: tokens.cached,
    })
}
