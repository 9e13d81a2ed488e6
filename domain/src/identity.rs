//! Ids derived from what a thing is: the same thing seen twice gets the same id, on any machine.
//!
//! All are UUIDv5 (RFC 9562 §5.5) in one fixed namespace, over length-prefixed parts, so that `("ab","c")` and
//! `("a","bc")` differ. Never over a body alone: two "ok" are two messages.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, Channel, CompanyId};

/// The project's own UUID namespace. Changing it orphans every id ever derived.
const NAMESPACE: Uuid = Uuid::from_u128(0x7f0c_9d2e_41b6_5c8a_9e37_2d6b_8a14_c3f5);

/// Which side wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The contact.
    Contact,
    /// The company itself, by hand or by us: an echo.
    Ourselves,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// One fact that travels on a topic.
    EventId
);
uuid_id!(
    /// A person, within one company and channel.
    ContactId
);
uuid_id!(
    /// All that was said with one contact.
    ConversationId
);
uuid_id!(
    /// One message, inbound or outbound. An inbound one has the id of its event.
    MessageId
);
uuid_id!(
    /// The messages of a contact that one model call answers.
    TurnId
);

impl EventId {
    /// A message with a provider's id. That is unique only within a chat and a direction, so both are parts.
    pub fn of_provider_message(
        company: CompanyId,
        channel: Channel,
        address: &Address,
        author: Author,
        provider_id: &str,
    ) -> Self {
        let author = match author {
            Author::Contact => "contact",
            Author::Ourselves => "ourselves",
        };
        let company = company.0.to_be_bytes();
        EventId(derive(&[
            b"provider_message",
            &company,
            channel.as_str().as_bytes(),
            address.as_str().as_bytes(),
            author.as_bytes(),
            provider_id.as_bytes(),
        ]))
    }

    /// A webhook without a provider's id whose producer sent `X-Idempotency-Key`.
    pub fn of_idempotency_key(company: CompanyId, channel: Channel, key: &str) -> Self {
        EventId(derive(&[b"idempotency_key", &company.0.to_be_bytes(), channel.as_str().as_bytes(), key.as_bytes()]))
    }

    /// A webhook with neither: its verified MAC, which covers the timestamp and every byte.
    pub fn of_mac(company: CompanyId, channel: Channel, mac: &[u8]) -> Self {
        EventId(derive(&[b"mac", &company.0.to_be_bytes(), channel.as_str().as_bytes(), mac]))
    }

    /// A record without a readable id: its position identifies it.
    pub fn of_position(topic: &str, partition: i32, offset: i64) -> Self {
        EventId(derive(&[b"position", topic.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()]))
    }

    /// The usage of one kind that a message or turn caused.
    pub fn of_usage(company: CompanyId, fact: &str, cause: Uuid) -> Self {
        EventId(derive(&[b"usage", &company.0.to_be_bytes(), fact.as_bytes(), cause.as_bytes()]))
    }

    /// The event that says how a turn or a delivery ended. One that a replay ends again has another event, with another
    /// `round`.
    pub fn of_end(company: CompanyId, kind: &str, work: Uuid, round: i64) -> Self {
        let (company, round) = (company.0.to_be_bytes(), round.to_be_bytes());
        EventId(derive(&[b"end", &company, kind.as_bytes(), work.as_bytes(), &round]))
    }

    /// One model call made for a claim of a turn: the idempotency key that its tokens are booked under.
    pub fn of_model_call(company: CompanyId, turn: TurnId, claim: i32, call: u32) -> Self {
        let (company, claim, call) = (company.0.to_be_bytes(), claim.to_be_bytes(), call.to_be_bytes());
        EventId(derive(&[b"model_call", &company, turn.0.as_bytes(), &claim, &call]))
    }
}

impl ContactId {
    /// A contact is named after the first alias it was seen under.
    pub fn first_seen_as(company: CompanyId, channel: Channel, alias: &Address) -> Self {
        let company = company.0.to_be_bytes();
        ContactId(derive(&[b"contact", &company, channel.as_str().as_bytes(), alias.as_str().as_bytes()]))
    }

    /// The second of two people who were stored as one contact, known by that alias. Not [`ContactId::first_seen_as`],
    /// which may be the id that the first one keeps.
    pub fn divided_from(company: CompanyId, contact: ContactId, alias: &Address) -> Self {
        let company = company.0.to_be_bytes();
        ContactId(derive(&[b"divided_contact", &company, contact.0.as_bytes(), alias.as_str().as_bytes()]))
    }
}

impl ConversationId {
    /// One conversation per contact.
    pub fn with(company: CompanyId, contact: ContactId) -> Self {
        ConversationId(derive(&[b"conversation", &company.0.to_be_bytes(), contact.0.as_bytes()]))
    }
}

impl TurnId {
    /// A turn is named after the message that opened it.
    pub fn opened_by(company: CompanyId, message: MessageId) -> Self {
        TurnId(derive(&[b"turn", &company.0.to_be_bytes(), message.0.as_bytes()]))
    }
}

impl MessageId {
    /// The one reply of a turn.
    pub fn reply_to(company: CompanyId, turn: TurnId) -> Self {
        MessageId(derive(&[b"reply", &company.0.to_be_bytes(), turn.0.as_bytes()]))
    }
}

impl From<EventId> for MessageId {
    fn from(event: EventId) -> Self {
        MessageId(event.0)
    }
}

impl From<MessageId> for EventId {
    fn from(message: MessageId) -> Self {
        EventId(message.0)
    }
}

fn derive(parts: &[&[u8]]) -> Uuid {
    let mut name = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        // A part above 4 GiB cannot occur: bodies are capped at ingest long before.
        name.extend_from_slice(&(part.len() as u32).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider_message(company: i64, address: &str, author: Author, id: &str) -> String {
        let address = Address::phone(address).unwrap();
        EventId::of_provider_message(CompanyId(company), Channel::Whaticket, &address, author, id).to_string()
    }

    #[test]
    fn an_id_is_the_same_on_every_machine() {
        assert_eq!(
            provider_message(1, "5511999990001", Author::Contact, "3EB0C431C26A1916E07A"),
            "7c79caa8-5853-5a58-9ed5-8f79e7ebdb31"
        );
    }

    #[test]
    fn a_providers_id_is_unique_within_a_chat_only() {
        let one = provider_message(1, "5511999990001", Author::Contact, "3EB0");
        assert_ne!(one, provider_message(2, "5511999990001", Author::Contact, "3EB0"));
        assert_ne!(one, provider_message(1, "5511999990002", Author::Contact, "3EB0"));
        assert_ne!(one, provider_message(1, "5511999990001", Author::Ourselves, "3EB0"));
        assert_eq!(
            one,
            provider_message(1, "551199990001", Author::Contact, "3EB0"),
            "the ninth digit is not identity"
        );
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(derive(&[b"ab", b"c"]), derive(&[b"a", b"bc"]));
    }
}
