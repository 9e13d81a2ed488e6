//! A message to be sent: what reply writes and delivery hands to a provider.

use serde::{Deserialize, Serialize};

use crate::{Channel, ConversationId, MessageId};

/// One outbound message, complete: delivery needs nothing else to send it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundMessage {
    /// Its id, which is also the event's.
    pub message_id: MessageId,
    /// The conversation it belongs to; one message of a conversation is being sent at a time.
    pub conversation_id: ConversationId,
    /// Its position in the conversation; lower ones are sent first.
    pub position: i64,
    /// The channel it is sent through.
    pub channel: Channel,
    /// Where to, in the provider's own form.
    pub to: String,
    pub body: String,
    /// What it is for: decides whether an uncertain send may be repeated.
    pub purpose: Purpose,
}

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// An answer to a turn.
    Reply,
}

impl Purpose {
    const ALL: [Purpose; 1] = [Purpose::Reply];

    /// The name in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Reply => "reply",
        }
    }

    /// The purpose of that name.
    pub fn named(name: &str) -> Option<Self> {
        Purpose::ALL.into_iter().find(|it| it.as_str() == name)
    }
}
