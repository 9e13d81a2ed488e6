//! The two bodies of `POST /webhook/whaticket`: a bridge's (`message` with `number` or `ticket`) and the raw Baileys
//! message that Whaticket forks pass on (`key`, `messageTimestamp`, `message`). One reader takes both.

use domain::{Author, Channel, Content, IgnoreReason, InboundMessage};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::content::{Message, Said};
use super::json::Json;
use super::{Parsed, UnsupportedKind, repair, sender, text};
use crate::rejection::Rejection;

/// Reads one hook. A message of which nothing arrived comes back without its provider's id.
///
/// # Errors
/// `NotJson` with the position, `MissingNumber`, `UnknownShape`, or the field that makes no sense. What was understood
/// and needs no answer is no error: it comes back with its reason in `ignore`.
pub fn whaticket(body: &[u8], received_at: Timestamp) -> Result<Parsed, Rejection> {
    match serde_json::from_slice(body) {
        Ok(hook) => read(hook, received_at),
        Err(error) => match repair::without_lone_surrogates(body) {
            Some(repaired) => read(serde_json::from_slice(&repaired).map_err(not_json)?, received_at),
            None => Err(not_json(error)),
        },
    }
}

/// What of a hook is of use.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Hook<'a> {
    #[serde(borrow)]
    pub(super) number: Json<'a>,
    #[serde(borrow)]
    pub(super) ticket: Json<'a, Ticket<'a>>,
    #[serde(borrow)]
    pub(super) key: Json<'a, Key<'a>>,
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
pub(super) struct Key<'a> {
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
    /// Whether our side wrote it.
    pub(super) fn is_from_me(&self) -> bool {
        self.from_me.is_true() || self.key.object().is_some_and(|it| it.from_me.is_true())
    }

    /// The provider's id: one that is there and cannot be kept is refused, for without it a repeat would be answered.
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

    /// The writer's name. What a message of our own shows is our name, which would be taken for the contact's.
    fn name(&self) -> Option<String> {
        let contact = || self.ticket.object()?.contact.object()?.name.text();
        let name = if self.is_from_me() { None } else { self.push_name.text().or_else(contact) };
        text::name(name?)
    }

    /// When it was written, in a year that exists.
    fn written_at(&self) -> Option<Timestamp> {
        let second = match &self.message_timestamp {
            Json::Number(number) => number.as_i64()?,
            Json::Text(text) => text.trim().parse().ok()?,
            Json::Object(long) => long.value()?,
            Json::Missing | Json::Truth(_) | Json::List => return None,
        };
        Timestamp::from_second(second).ok().filter(|_| second > 0)
    }

    /// What kind of message it is, if we cannot read it.
    fn unsupported(&self) -> Option<UnsupportedKind> {
        match self.message {
            Json::Object(Message::Unsupported(kind)) => Some(kind),
            _ => None,
        }
    }

    /// What was said. A shell without content is a stub only where WhatsApp itself sent the shell.
    fn said(&mut self) -> Option<Said> {
        let is_shell = self.key.object().is_some() || self.message_stub_type.is_present();
        match std::mem::take(&mut self.message) {
            Json::Object(Message::Said(said)) => Some(said),
            Json::Object(Message::Unsupported(_)) => Some(Said::unsupported()),
            Json::Object(Message::Bare) => Some(Said::stub()),
            Json::Missing if is_shell => Some(Said::stub()),
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
    // Nobody answers these, so it does not matter that we cannot read them.
    let unread = ignore.map(|_| Said { content: Content::Nothing, quotes: None, ignore: None });
    let unsupported = hook.unsupported().filter(|_| ignore.is_none());
    let said = hook.said().or(unread).ok_or(Rejection::UnknownShape)?;
    // WhatsApp sends a message it could not decrypt again under the same id: the shell must not make that a repeat.
    let provider_id = provider_id.filter(|_| !said.is_shell());
    let message = InboundMessage {
        channel: Channel::Whaticket,
        address: sender.address,
        aliases: sender.aliases,
        reply_to: sender.reply_to,
        provider_id,
        author: if is_from_me { Author::Ourselves } else { Author::Contact },
        name: hook.name(),
        content: said.content,
        quotes: said.quotes,
        ignore: ignore.or(said.ignore),
    };
    let occurred_at = hook.written_at().filter(|at| is_plausible(*at, received_at)).unwrap_or(received_at);
    Ok(Parsed { message, occurred_at, unsupported })
}

/// A message can come late, after an outage of days, and a clock can be off by hours. What claims more than that would
/// be booked in another month, or stand first in a list for years.
fn is_plausible(written: Timestamp, received: Timestamp) -> bool {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    received.duration_since(written) <= DAY * 30 && written.duration_since(received) <= DAY
}

fn not_json(error: serde_json::Error) -> Rejection {
    Rejection::NotJson { line: error.line(), column: error.column() }
}
