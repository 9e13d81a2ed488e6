//! The fields of a body of `POST /webhook/whaticket` that are used, and what they say.

use jiff::Timestamp;
use serde::Deserialize;

use super::content::{Message, MessageContent};
use super::json::Json;
use super::{UnsupportedKind, text};
use crate::rejection::Rejection;

/// The fields of a body that are used.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Hook<'a> {
    #[serde(borrow)]
    pub(super) number: Json<'a>,
    #[serde(borrow)]
    pub(super) ticket: Json<'a, Ticket<'a>>,
    #[serde(borrow)]
    pub(super) key: Json<'a, MessageKey<'a>>,
    #[serde(borrow)]
    pub(super) id: Json<'a>,
    #[serde(borrow)]
    pub(super) message_id: Json<'a>,
    #[serde(borrow)]
    pub(super) from_me: Json<'a>,
    #[serde(borrow)]
    pub(super) broadcast: Json<'a>,
    #[serde(borrow)]
    pub(super) push_name: Json<'a>,
    #[serde(borrow)]
    message_timestamp: Json<'a, Long<'a>>,
    #[serde(borrow)]
    pub(super) message_stub_type: Json<'a>,
    #[serde(borrow)]
    pub(super) message: Json<'a, Message>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Ticket<'a> {
    #[serde(borrow)]
    pub(super) contact: Json<'a, Contact<'a>>,
    #[serde(borrow)]
    pub(super) is_group: Json<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Contact<'a> {
    #[serde(borrow)]
    pub(super) number: Json<'a>,
    #[serde(borrow)]
    pub(super) is_group: Json<'a>,
    #[serde(borrow)]
    pub(super) name: Json<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MessageKey<'a> {
    #[serde(borrow)]
    pub(super) remote_jid: Json<'a>,
    #[serde(borrow)]
    pub(super) remote_jid_alt: Json<'a>,
    #[serde(borrow)]
    pub(super) sender_pn: Json<'a>,
    #[serde(borrow)]
    pub(super) from_me: Json<'a>,
    #[serde(borrow)]
    pub(super) id: Json<'a>,
}

/// A 64-bit integer as JavaScript's `long` serialises it; both halves are signed there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Long<'a> {
    #[serde(borrow)]
    low: Json<'a>,
    #[serde(borrow)]
    high: Json<'a>,
}

impl Long<'_> {
    fn value(&self) -> Option<i64> {
        let half = |it: &Json<'_>| {
            if let Json::Number(number) = it { number.as_i64() } else { None }
        };
        half(&self.high)?.checked_mul(1 << 32)?.checked_add(half(&self.low)? & 0xffff_ffff)
    }
}

impl Hook<'_> {
    /// Whether the company's side wrote it.
    pub(super) fn is_from_me(&self) -> bool {
        self.from_me.is_true() || self.key.object().is_some_and(|it| it.from_me.is_true())
    }

    /// The provider's id. One that is present and cannot be kept is refused, because without it a repeat would be answered.
    pub(super) fn provider_id(&self) -> Result<Option<String>, Rejection> {
        let candidates = [
            ("key.id", self.key.object().and_then(|it| it.id.text())),
            ("id", self.id.text()),
            ("messageId", self.message_id.text()),
        ];
        let Some((field, id)) = candidates.into_iter().find_map(|(field, id)| Some((field, id?))) else {
            return Ok(None);
        };
        text::id(id).map(Some).ok_or(Rejection::InvalidField { field })
    }

    /// The contact's name. A message of our own carries our name, which must not become the contact's.
    pub(super) fn name(&self) -> Option<String> {
        let contact = || self.ticket.object()?.contact.object()?.name.text();
        let name = if self.is_from_me() { None } else { self.push_name.text().or_else(contact) };
        text::name(name?)
    }

    /// The provider's timestamp, if it is after 1970 and within the range of dates.
    pub(super) fn written_at(&self) -> Option<Timestamp> {
        let second = match &self.message_timestamp {
            Json::Number(number) => number.as_i64()?,
            Json::Text(text) => text.trim().parse().ok()?,
            Json::Object(long) => long.value()?,
            Json::Missing | Json::Bool(_) | Json::List => return None,
        };
        Timestamp::from_second(second).ok().filter(|_| second > 0)
    }

    /// The kind of content, if it is one that we do not read.
    pub(super) fn unsupported(&self) -> Option<UnsupportedKind> {
        match self.message {
            Json::Object(Message::Unsupported(kind)) => Some(kind),
            _ => None,
        }
    }

    /// The content. A body without a message is a stub only where WhatsApp itself, not the bridge, sent it like that.
    pub(super) fn take_content(&mut self) -> Option<MessageContent> {
        let is_from_whatsapp = self.key.object().is_some() || self.message_stub_type.is_present();
        match std::mem::take(&mut self.message) {
            Json::Object(Message::Readable(content)) => Some(content),
            Json::Object(Message::Unsupported(_)) => Some(MessageContent::unsupported()),
            Json::Object(Message::Empty) => Some(MessageContent::stub()),
            Json::Missing if is_from_whatsapp => Some(MessageContent::stub()),
            _ => None,
        }
    }
}
