//! What is metered. The catalogue says which of these facts a plan's feature counts.

use serde::{Deserialize, Serialize};

use crate::{CompanyId, EventId};

/// One metered fact. Its event id is derived from what caused it and is the idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEvent {
    #[serde(flatten)]
    pub fact: Fact,
}

/// The facts, in their smallest unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// One message from a contact, when its turn is answered.
    MessageIn,
    /// One message of ours, at the commit that decided to send it.
    MessageOut,
    /// One model call that reported its tokens.
    ModelTokens {
        /// The model, as the provider names it.
        model: String,
        input: i64,
        /// Tokens written, thoughts included: both are billed.
        output: i64,
        /// Of the tokens read, those the provider had cached.
        cached: i64,
    },
}

impl Fact {
    /// The fact's name in JSON, ids and columns.
    pub fn name(&self) -> &'static str {
        match self {
            Fact::MessageIn => "message_in",
            Fact::MessageOut => "message_out",
            Fact::ModelTokens { .. } => "model_tokens",
        }
    }

    /// The event id of this fact; `cause` is the id of the message or the turn that caused it.
    pub fn event_id(&self, company: CompanyId, cause: uuid::Uuid) -> EventId {
        EventId::of_usage(company, self.name(), cause)
    }
}
