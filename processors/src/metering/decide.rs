//! A fact as a line of the ledger. Pure.

use domain::{CompanyId, Envelope, Fact, UsageEvent};
use jiff::Timestamp;

/// One line of the ledger. All amounts are in the fact's smallest unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) company: CompanyId,
    /// The event's id: the same fact told twice is one line.
    pub(super) idempotency_key: String,
    pub(super) fact: &'static str,
    pub(super) model: String,
    pub(super) amount: i64,
    pub(super) tokens_in: i64,
    pub(super) tokens_out: i64,
    pub(super) tokens_cached: i64,
    pub(super) occurred_at: Timestamp,
}

/// The line of a fact. For tokens the amount is input and output together; cached ones are part of the input.
pub(super) fn line(envelope: &Envelope<UsageEvent>) -> Line {
    let fact = &envelope.payload.fact;
    let (model, amount, tokens) = match fact {
        Fact::MessageIn | Fact::MessageOut => (String::new(), 1, (0, 0, 0)),
        Fact::ModelTokens { model, input, output, cached } => {
            (model.clone(), input.saturating_add(*output), (*input, *output, *cached))
        }
    };
    Line {
        company: envelope.company_id,
        idempotency_key: envelope.event_id.to_string(),
        fact: fact.name(),
        model,
        amount,
        tokens_in: tokens.0,
        tokens_out: tokens.1,
        tokens_cached: tokens.2,
        occurred_at: envelope.occurred_at,
    }
}
