//! What to do with a message, and how a turn ends. No I/O, no clock, no chance.

use domain::{Fact, IgnoreReason, InboundMessage};

use platform::queue::Health;

use super::gemini::{CallReport, ModelAnswer, ModelError};

/// WhatsApp's own limit for a text message; an answer of a few sentences is far below it.
const MOST_CHARS: usize = 4_096;

/// How a company stands, as far as answering goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompanyStatus {
    Active,
    Suspended,
}

/// What becomes of a message that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageAction {
    /// It joins a turn.
    Collect,
    Ignore(IgnoreReason),
}

/// Cheap guards first; what the message's own shape says comes before anything about the company.
pub(super) fn on_message(message: &InboundMessage, company: Option<CompanyStatus>) -> MessageAction {
    match (message.ignore, company) {
        (Some(reason), _) => MessageAction::Ignore(reason),
        (None, Some(CompanyStatus::Suspended)) => MessageAction::Ignore(IgnoreReason::CompanyInactive),
        // An unknown company is refused by the tables themselves and becomes a dead letter.
        (None, Some(CompanyStatus::Active) | None) => MessageAction::Collect,
    }
}

/// How a turn ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TurnEnd {
    pub(super) outcome: TurnOutcome,
    /// What is sent, if anything.
    pub(super) text: Option<String>,
    /// What the model calls used.
    pub(super) tokens: Vec<Fact>,
    /// The model that was called last, if one was.
    pub(super) model: Option<String>,
    /// What this says of the model's provider.
    pub(super) health: Health,
}

/// The outcomes of a turn; each turn has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnOutcome {
    /// The model's answer is sent.
    Replied,
    /// A text of ours is sent instead, because of this class of failure or refusal.
    Fallback(&'static str),
    Ignored(IgnoreReason),
}

impl TurnOutcome {
    /// The name in `turns.outcome`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            TurnOutcome::Replied => "replied",
            TurnOutcome::Fallback(_) => "fallback",
            TurnOutcome::Ignored(_) => "ignored",
        }
    }

    /// The name in `turns.reason`.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            TurnOutcome::Replied => None,
            TurnOutcome::Fallback(class) => Some(class),
            TurnOutcome::Ignored(reason) => Some(reason.as_str()),
        }
    }
}

impl TurnEnd {
    /// Says nothing, because the company is not served.
    fn of_suspended_company() -> Self {
        TurnEnd {
            outcome: TurnOutcome::Ignored(IgnoreReason::CompanyInactive),
            text: None,
            tokens: Vec::new(),
            model: None,
            health: Health::Unclear,
        }
    }

    /// Says a text of ours, without a model call.
    fn with_our_text(class: &'static str, text: &str) -> Self {
        TurnEnd {
            outcome: TurnOutcome::Fallback(class),
            text: Some(text.to_owned()),
            ..TurnEnd::of_suspended_company()
        }
    }
}

/// Ends a turn with what the model said, or with the fallback: a contact is never left without a word.
pub(super) fn on_answer(answer: Result<ModelAnswer, ModelError>, calls: &[CallReport], fallback: &str) -> TurnEnd {
    let tokens = calls.iter().filter_map(used).collect();
    let model = calls.last().map(|it| it.model.clone());
    let (outcome, text, health) = match answer {
        Ok(answer) => (TurnOutcome::Replied, sendable(&answer.text), Health::Healthy),
        Err(failure) => (TurnOutcome::Fallback(failure.class()), fallback.to_owned(), failure.health()),
    };
    TurnEnd { outcome, text: Some(text), tokens, model, health }
}

/// A company that may not ask the model: at its limit a text says so, for any other reason the usual fallback does.
pub(super) fn on_denial(reason: &str, at_limit: &str, fallback: &str) -> TurnEnd {
    match reason {
        "usage_limit_reached" => TurnEnd::with_our_text("usage_limit_reached", at_limit),
        "no_subscription" => TurnEnd::with_our_text("no_subscription", fallback),
        "subscription_inactive" => TurnEnd::with_our_text("subscription_inactive", fallback),
        "trial_expired" => TurnEnd::with_our_text("trial_expired", fallback),
        _ => TurnEnd::with_our_text("feature_unavailable", fallback),
    }
}

/// As much as one message holds. Postgres holds no NUL in text, and no phone shows one.
fn sendable(text: &str) -> String {
    text.chars().filter(|it| *it != '\0').take(MOST_CHARS).collect()
}

/// An answer that the database refuses to hold is not sent; what it used stays used.
pub(super) fn on_refusal(refused: TurnEnd, fallback: &str) -> TurnEnd {
    TurnEnd { outcome: TurnOutcome::Fallback("refused_by_database"), text: Some(fallback.to_owned()), ..refused }
}

/// A turn that was claimed again and again without coming to an end.
pub(super) fn on_exhaustion(fallback: &str) -> TurnEnd {
    TurnEnd::with_our_text("too_many_claims", fallback)
}

/// A turn that was held back until its deadline, because the model's provider does not answer.
pub(super) fn on_open_circuit(fallback: &str) -> TurnEnd {
    TurnEnd::with_our_text("circuit_open", fallback)
}

/// A company that was suspended while a turn was collecting gets no model call.
pub(super) fn on_suspension() -> TurnEnd {
    TurnEnd::of_suspended_company()
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
