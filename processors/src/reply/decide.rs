//! What to do with a message, and how a turn ends. No I/O, clock or randomness.

use domain::{Fact, IgnoreReason, InboundMessage};

use platform::queue::Health;

use super::gemini::{CallReport, ModelAnswer, ModelError};

/// WhatsApp's own limit for a text message; an answer of a few sentences is far below it.
const MAX_CHARS: usize = 4_096;

/// Whether a company's messages are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompanyStatus {
    Active,
    Suspended,
}

/// What is done with an inbound message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageAction {
    /// It is stored and joins a turn.
    Collect,
    Ignore(IgnoreReason),
}

/// The reason that the message itself gives comes before the company's status.
pub(super) fn on_message(message: &InboundMessage, company: Option<CompanyStatus>) -> MessageAction {
    match (message.ignore, company) {
        (Some(reason), _) => MessageAction::Ignore(reason),
        (None, Some(CompanyStatus::Suspended)) => MessageAction::Ignore(IgnoreReason::CompanyInactive),
        // The tables refuse a message of an unknown company, which makes it a dead letter.
        (None, Some(CompanyStatus::Active) | None) => MessageAction::Collect,
    }
}

/// How a turn ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TurnEnd {
    pub(super) outcome: TurnOutcome,
    /// The text that is sent, if one is.
    pub(super) text: Option<String>,
    /// The tokens that the model calls used.
    pub(super) tokens: Vec<Fact>,
    /// The model that was called last, if one was.
    pub(super) model: Option<String>,
    /// What this means for the circuit of the model's provider.
    pub(super) health: Health,
}

/// The outcomes of a turn; each turn has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnOutcome {
    /// The model's answer is sent.
    Replied,
    /// A fixed text is sent instead, because of this class of failure or refusal.
    FixedText(&'static str),
    Ignored(IgnoreReason),
}

impl TurnOutcome {
    /// The name in `turns.outcome`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            TurnOutcome::Replied => "replied",
            TurnOutcome::FixedText(_) => "fallback",
            TurnOutcome::Ignored(_) => "ignored",
        }
    }

    /// The name in `turns.reason`.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            TurnOutcome::Replied => None,
            TurnOutcome::FixedText(class) => Some(class),
            TurnOutcome::Ignored(reason) => Some(reason.as_str()),
        }
    }
}

impl TurnEnd {
    /// Without a message, because the company is not served.
    fn of_suspended_company() -> Self {
        TurnEnd {
            outcome: TurnOutcome::Ignored(IgnoreReason::CompanyInactive),
            text: None,
            tokens: Vec::new(),
            model: None,
            health: Health::Unclear,
        }
    }

    /// With a fixed text, without a model call.
    fn with_fixed_text(class: &'static str, text: &str) -> Self {
        TurnEnd {
            outcome: TurnOutcome::FixedText(class),
            text: Some(text.to_owned()),
            ..TurnEnd::of_suspended_company()
        }
    }
}

/// Ends a turn with the model's answer, or with the fallback text, so that a contact always gets a reply.
pub(super) fn on_answer(answer: Result<ModelAnswer, ModelError>, calls: &[CallReport], fallback: &str) -> TurnEnd {
    let tokens = calls.iter().filter_map(used).collect();
    let model = calls.last().map(|it| it.model.clone());
    let (outcome, text, health) = match answer {
        Ok(answer) => (TurnOutcome::Replied, sendable(&answer.text), Health::Healthy),
        Err(error) => (TurnOutcome::FixedText(error.class()), fallback.to_owned(), error.health()),
    };
    TurnEnd { outcome, text: Some(text), tokens, model, health }
}

/// Ends a turn whose company may not call the model: with the limit text at its limit, else with the fallback text.
pub(super) fn on_denial(reason: &str, at_limit: &str, fallback: &str) -> TurnEnd {
    match reason {
        "usage_limit_reached" => TurnEnd::with_fixed_text("usage_limit_reached", at_limit),
        "no_subscription" => TurnEnd::with_fixed_text("no_subscription", fallback),
        "subscription_inactive" => TurnEnd::with_fixed_text("subscription_inactive", fallback),
        "trial_expired" => TurnEnd::with_fixed_text("trial_expired", fallback),
        _ => TurnEnd::with_fixed_text("feature_unavailable", fallback),
    }
}

/// The part of a text that fits in one message. Postgres stores no NUL in text, and no phone shows one.
fn sendable(text: &str) -> String {
    text.chars().filter(|it| *it != '\0').take(MAX_CHARS).collect()
}

/// Ends a turn whose answer Postgres refuses to store: with the fallback text; the tokens stay used.
pub(super) fn on_refusal(refused: TurnEnd, fallback: &str) -> TurnEnd {
    TurnEnd { outcome: TurnOutcome::FixedText("refused_by_database"), text: Some(fallback.to_owned()), ..refused }
}

/// Ends a turn that was claimed too often without an end.
pub(super) fn on_exhaustion(fallback: &str) -> TurnEnd {
    TurnEnd::with_fixed_text("too_many_claims", fallback)
}

/// Ends a turn that was held back until its deadline, because the model's provider does not answer.
pub(super) fn on_open_circuit(fallback: &str) -> TurnEnd {
    TurnEnd::with_fixed_text("circuit_open", fallback)
}

/// Ends a turn whose company was suspended while it was collecting, without a model call.
pub(super) fn on_suspension() -> TurnEnd {
    TurnEnd::of_suspended_company()
}

/// A call is metered if the provider reported its tokens, even without a usable answer, because it is billed.
fn used(call: &CallReport) -> Option<Fact> {
    let tokens = call.tokens?;
    Some(Fact::ModelTokens {
        model: call.model.clone(),
        input: tokens.input,
        output: tokens.output,
        cached: tokens.cached,
    })
}
