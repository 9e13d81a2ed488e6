//! Finds the sender's address, the number to reply to, and the other ids of the same chat.
//!
//! Order: `number`, `ticket.contact.number`, `key.remoteJidAlt` (earlier Baileys: `key.senderPn`), `key.remoteJid`.
//! A phone is preferred to a `@lid`, because WhatsApp does not always send both. A group, a channel or a status is one
//! chat, whichever member wrote the message.

use std::borrow::Cow;

use domain::{Address, Alias, IgnoreReason};

use super::hook::Hook;
use super::json::Json;

use crate::rejection::Rejection;

/// The longest id that is accepted: WhatsApp's have at most 40 bytes, and ids become part of keys.
const LONGEST_BYTES: usize = 128;

/// The chat a message belongs to.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) address: Address,
    pub(super) aliases: Vec<Alias>,
    pub(super) reply_to: String,
    /// Why it is not to be answered, as far as the chat shows it.
    pub(super) ignore: Option<IgnoreReason>,
}

/// # Errors
/// `MissingNumber` if no field identifies the sender, `InvalidField` if one does and is neither a number nor a WhatsApp id.
pub(super) fn resolve(hook: &Hook<'_>) -> Result<Sender, Rejection> {
    if let Some(group) = ticket_of_a_group(hook) {
        return Ok(group.into_sender(Vec::new()));
    }
    let contact = hook.ticket.object().and_then(|it| it.contact.object());
    let key = hook.key.object();
    let candidates = [
        ("number", Some(&hook.number)),
        ("ticket.contact.number", contact.map(|it| &it.number)),
        ("key.remoteJidAlt", key.map(|it| &it.remote_jid_alt)),
        // In a message of our own this is our own number.
        ("key.senderPn", key.filter(|_| !hook.is_from_me()).map(|it| &it.sender_pn)),
        ("key.remoteJid", key.map(|it| &it.remote_jid)),
    ];

    let mut ids: Vec<ChatId> = Vec::with_capacity(candidates.len());
    let mut invalid = None;
    for (field, value) in candidates {
        let Some(id_text) = value.and_then(id_text) else {
            continue;
        };
        match ChatId::read(&id_text) {
            Some(id) if matches!(id.kind, IdKind::Chat(_)) => return Ok(id.into_sender(Vec::new())),
            // Two phones could be two people, so of each kind only the first is used.
            Some(id) if ids.iter().all(|it| it.kind != id.kind) => ids.push(id),
            Some(_) => {}
            None => invalid = invalid.or(Some(field)),
        }
    }
    let refusal = invalid.map_or(Rejection::MissingNumber, |field| Rejection::InvalidField { field });
    ids.sort_by_key(|it| it.kind != IdKind::Phone);
    let mut ids = ids.into_iter();
    let first = ids.next().ok_or(refusal)?;
    Ok(first.into_sender(ids.map(|it| it.address).collect()))
}

/// The group of a bridge's ticket: its contact's number is the group's id, without the `@g.us` that would show it.
fn ticket_of_a_group(hook: &Hook<'_>) -> Option<ChatId> {
    let ticket = hook.ticket.object()?;
    let contact = ticket.contact.object()?;
    if !ticket.is_group.is_true() && !contact.is_group.is_true() {
        return None;
    }
    let id_text = id_text(&contact.number)?;
    let user = id_text.split('@').next()?;
    ChatId::read(&format!("{user}@g.us"))
}

/// An id given as text or as a number; `None` if it is blank or null. Any other type yields text that is no valid id, so
/// that the field is refused by name.
fn id_text<'a>(value: &'a Json<'_>) -> Option<Cow<'a, str>> {
    match value {
        Json::Missing => None,
        Json::Text(text) if text.trim().is_empty() => None,
        Json::Text(text) => Some(Cow::Borrowed(text.trim())),
        Json::Number(number) => Some(Cow::Owned(number.to_string())),
        Json::Bool(_) | Json::List | Json::Object(_) => Some(Cow::Borrowed("?")),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum IdKind {
    Phone,
    Lid,
    /// Not a person, and so never answered.
    Chat(IgnoreReason),
    /// An id with a server name that is not known.
    Other,
}

/// One id of a chat, and where replies to it go.
#[derive(Debug)]
struct ChatId {
    kind: IdKind,
    address: Address,
    reply_to: String,
}

impl ChatId {
    fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST_BYTES {
            return None;
        }
        match text.split_once('@') {
            None => ChatId::phone(text),
            Some((user, "s.whatsapp.net" | "c.us")) => {
                // `user_agent:device@…` is one device of the user.
                ChatId::phone(user.split([':', '_']).next()?)
            }
            Some((_, server)) => {
                let kind = match server {
                    "lid" => IdKind::Lid,
                    "g.us" => IdKind::Chat(IgnoreReason::Group),
                    "broadcast" => IdKind::Chat(IgnoreReason::Broadcast),
                    "newsletter" => IdKind::Chat(IgnoreReason::Newsletter),
                    _ => IdKind::Other,
                };
                let is_plain = !server.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                let address = Address::jid(text).filter(|_| is_plain)?;
                Some(ChatId { kind, address, reply_to: text.to_owned() })
            }
        }
    }

    /// A phone number as people write it. A full stop is not allowed: `5511999990001.0` would become another number.
    fn phone(text: &str) -> Option<Self> {
        if !text.chars().all(|it| it.is_ascii_digit() || matches!(it, '+' | '-' | ' ' | '(' | ')')) {
            return None;
        }
        let reply_to = text.chars().filter(char::is_ascii_digit).collect();
        Some(ChatId { kind: IdKind::Phone, address: Address::phone(text)?, reply_to })
    }

    fn into_sender(self, others: Vec<Alias>) -> Sender {
        let ignore = match self.kind {
            IdKind::Chat(reason) => Some(reason),
            IdKind::Phone | IdKind::Lid | IdKind::Other => None,
        };
        let mut aliases = others;
        aliases.insert(0, self.address.clone());
        Sender { address: self.address, aliases, reply_to: self.reply_to, ignore }
    }
}
