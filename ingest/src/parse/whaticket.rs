//! The two bodies of `POST /webhook/whaticket`: a bridge's (`message` with `number` or `ticket`) and the raw Baileys
//! message that Whaticket forks pass on (`key`, `messageTimestamp`, `message`). One parser reads both.

use domain::{Author, Channel, Content, IgnoreReason, InboundMessage};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::content::{Message, MessageContent};
use super::json::Json;
use super::{Parsed, UnsupportedKind, repair, sender, text};
use crate::rejection::Rejection;

/// Parses one body. A message whose content did not arrive is returned without its provider's id.
///
/// # Errors
/// `NotJson` with the position, `MissingNumber`, `UnknownShape`, or `InvalidField`. A message that was read and needs no
/// answer is no error: it is returned with its reason in `ignore`.
pub fn whaticket(body: &[u8], received_at: Timestamp) -> Result<Parsed, Rejection> {
    match serde_json::from_slice(body) {
        Ok(hook) => read(hook, received_at),
        Err(error) => match repair::without_lone_surrogates(body) {
            Some(repaired) => read(serde_json::from_slice(&repaired).map_err(not_json)?, received_at),
            None => Err(not_json(error)),
        },
    }
}

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
    id: Json<'a>,
    #[serde(borrow)]
    message_id: Json<'a>,
    #[serde(borrow)]
    from_me: Json<'a>,
    #[serde(borrow)]
    broadcast: Json<'a>,
    #[serde(borrow)]
    push_name: Json<'a>,
    #[serde(borrow)]
    message_timestamp: Json<'a, Long<'a>>,
    #[serde(borrow)]
    message_stub_type: Json<'a>,
    #[serde(borrow)]
    message: Json<'a, Message>,
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
    name: Json<'a>,
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
    from_me: Json<'a>,
    #[serde(borrow)]
    id: Json<'a>,
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
    fn provider_id(&self) -> Result<Option<String>, Rejection> {
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
    fn name(&self) -> Option<String> {
        let contact = || self.ticket.object()?.contact.object()?.name.text();
        let name = if self.is_from_me() { None } else { self.push_name.text().or_else(contact) };
        text::name(name?)
    }

    /// The provider's timestamp, if it is after 1970 and within the range of dates.
    fn written_at(&self) -> Option<Timestamp> {
        let second = match &self.message_timestamp {
            Json::Number(number) => number.as_i64()?,
            Json::Text(text) => text.trim().parse().ok()?,
            Json::Object(long) => long.value()?,
            Json::Missing | Json::Bool(_) | Json::List => return None,
        };
        Timestamp::from_second(second).ok().filter(|_| second > 0)
    }

    /// The kind of content, if it is one that we do not read.
    fn unsupported(&self) -> Option<UnsupportedKind> {
        match self.message {
            Json::Object(Message::Unsupported(kind)) => Some(kind),
            _ => None,
        }
    }

    /// The content. A body without a message is a stub only where WhatsApp itself, not the bridge, sent it like that.
    fn take_content(&mut self) -> Option<MessageContent> {
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

fn read(hook: Json<'_, Hook<'_>>, received_at: Timestamp) -> Result<Parsed, Rejection> {
    let mut hook = hook.into_object().ok_or(Rejection::InvalidField { field: "body" })?;
    let sender = sender::resolve(&hook)?;
    let is_from_me = hook.is_from_me();
    let provider_id = hook.provider_id()?;
    let chat = sender.ignore.or(hook.broadcast.is_true().then_some(IgnoreReason::Broadcast));
    let ignore = chat.or(is_from_me.then_some(IgnoreReason::OwnEcho));
    // These are not answered, so it does not matter whether their content can be read.
    let unread = ignore.map(|_| MessageContent { content: Content::Nothing, quotes: None, ignore: None });
    let unsupported = hook.unsupported().filter(|_| ignore.is_none());
    let content = hook.take_content().or(unread).ok_or(Rejection::UnknownShape)?;
    // A message that WhatsApp could not decrypt is sent again under the same id, and must not count as a repeat of its stub.
    let provider_id = provider_id.filter(|_| !content.is_without_content());
    let message = InboundMessage {
        channel: Channel::Whaticket,
        address: sender.address,
        aliases: sender.aliases,
        reply_to: sender.reply_to,
        provider_id,
        author: if is_from_me { Author::Ourselves } else { Author::Contact },
        name: hook.name(),
        content: content.content,
        quotes: content.quotes,
        ignore: ignore.or(content.ignore),
    };
    let occurred_at = hook.written_at().filter(|at| is_plausible(*at, received_at)).unwrap_or(received_at);
    Ok(Parsed { message, occurred_at, unsupported })
}

/// A message can be late by days, after an outage, and a clock can be wrong by hours. A timestamp further away would book
/// usage in another month, or keep a conversation first in a list for years.
fn is_plausible(written: Timestamp, received: Timestamp) -> bool {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    received.duration_since(written) <= DAY * 30 && written.duration_since(received) <= DAY
}

fn not_json(error: serde_json::Error) -> Rejection {
    Rejection::NotJson { line: error.line(), column: error.column() }
}
