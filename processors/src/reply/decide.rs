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
    /// The fallback text is sent, because of this class of failure.
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

/// Ends a turn with what the model said, or with the fallback: a contact is never left without a word.
pub(super) fn on_answer(answer: Result<Answer, Failure>, calls: &[CallReport], fallback: &str) -> Ending {
    let tokens = calls.iter().filter_map(used).collect();
    match answer {
        Ok(answer) => Ending { outcome: Outcome::Replied, text: Some(sayable(&answer.text)), tokens },
        Err(failure) => Ending { outcome: Outcome::Fallback(failure.class()), text: Some(fallback.to_owned()), tokens },
    }
}

/// As much as one message holds. Postgres holds no NUL in text, and no phone shows one.
fn sayable(text: &str) -> String {
    text.chars().filter(|it| *it != '\0').take(MOST_CHARS).collect()
}

/// An answer that the database refuses to hold is not sent; what it used stays used.
pub(super) fn on_refusal(refused: Ending, fallback: &str) -> Ending {
    let text = Some(fallback.to_owned());
    Ending { outcome: Outcome::Fallback("refused_by_database"), text, tokens: refused.tokens }
}

/// A turn that was claimed again and again without coming to an end.
pub(super) fn on_exhaustion(fallback: &str) -> Ending {
    Ending { outcome: Outcome::Fallback("too_many_claims"), text: Some(fallback.to_owned()), tokens: Vec::new() }
}

/// A company that was suspended while a turn was collecting gets no model call.
pub(super) fn on_suspension() -> Ending {
    Ending { outcome: Outcome::Ignored(IgnoreReason::CompanyInactive), text: None, tokens: Vec::new() }
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
