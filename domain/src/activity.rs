//! How work ended: facts for the archive. Ids, kinds, times and sizes only; never a text, a name or a number.

use serde::{Deserialize, Serialize};

use crate::{ContactId, ConversationId, EventId, TurnId};

/// One piece of work that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Activity {
    Turn(TurnEnded),
    Delivery(DeliveryEnded),
}

/// A turn ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnEnded {
    pub turn_id: TurnId,
    pub conversation_id: ConversationId,
    pub contact_id: ContactId,
    /// Messages of the contact that it answered.
    pub messages_in: u32,
    /// `replied`, `fallback` or `ignored`.
    pub outcome: String,
    /// Why, unless the model answered.
    pub reason: Option<String>,
    /// From receiving its first message to this end, in milliseconds.
    pub answer_ms: u64,
    /// The model that was called last, if any was.
    pub model: Option<String>,
}

/// A delivery ended: the message was sent, or its event was dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryEnded {
    pub delivery_id: EventId,
    pub conversation_id: ConversationId,
    /// `None` where the conversation is not known.
    pub contact_id: Option<ContactId>,
    /// `sent` or `failed_permanent`.
    pub outcome: String,
    /// Attempts since it was last enqueued.
    pub attempts: u32,
    /// From creating the delivery to this end, in milliseconds.
    pub took_ms: u64,
}
