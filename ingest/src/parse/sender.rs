//! Who wrote, where an answer goes, and by which names the writer is known.
//!
//! Order: `number`, `ticket.contact.number`, `key.remoteJidAlt` (earlier Baileys: `key.senderPn`), `key.remoteJid`.
//! A phone is preferred to a `@lid`, which WhatsApp may show one day and not the next. A group, a channel or a status
//! is a chat of its own, whoever wrote in it.

use std::borrow::Cow;

use domain::{Address, Alias, IgnoreReason};

use super::json::Json;
use super::whaticket::Hook;
use crate::rejection::Rejection;

/// The longest id that is believed: WhatsApp's have at most 40 bytes, and it becomes part of keys.
const LONGEST_BYTES: usize = 128;

/// The chat a message belongs to.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) address: Address,
    pub(super) aliases: Vec<Alias>,
    pub(super) reply_to: String,
    /// Why nobody should answer, as far as the chat shows it.
    pub(super) ignore: Option<IgnoreReason>,
}

/// Finds the sender.
///
/// # Errors
/// `MissingNumber` if nothing says who wrote, `InvalidField` if what does is no number and no WhatsApp id.
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

    let mut names: Vec<Name> = Vec::with_capacity(candidates.len());
    let mut invalid = None;
    for (field, value) in candidates {
        let Some(written) = value.and_then(written) else {
            continue;
        };
        match Name::read(&written) {
            Some(name) if matches!(name.kind, Kind::Chat(_)) => return Ok(name.into_sender(Vec::new())),
            // Two phones could be two people, so of each kind only the first is believed.
            Some(name) if names.iter().all(|it| it.kind != name.kind) => names.push(name),
            Some(_) => {}
            None => invalid = invalid.or(Some(field)),
        }
    }
    let refusal = invalid.map_or(Rejection::MissingNumber, |field| Rejection::InvalidField { field });
    names.sort_by_key(|it| it.kind != Kind::Phone);
    let mut names = names.into_iter();
    let first = names.next().ok_or(refusal)?;
    Ok(first.into_sender(names.map(|it| it.address).collect()))
}

/// A bridge's ticket of a group: its contact's number is the group's, without the server that would say so.
fn ticket_of_a_group(hook: &Hook<'_>) -> Option<Name> {
    let ticket = hook.ticket.object()?;
    let contact = ticket.contact.object()?;
    if !ticket.is_group.is_true() && !contact.is_group.is_true() {
        return None;
    }
    let written = written(&contact.number)?;
    let user = written.split('@').next()?;
    Name::read(&format!("{user}@g.us"))
}

/// A number as string or integer. Blanks and null are nothing; what is neither is kept, to be refused by its field.
fn written<'a>(value: &'a Json<'_>) -> Option<Cow<'a, str>> {
    match value {
        Json::Missing => None,
        Json::Text(text) if text.trim().is_empty() => None,
        Json::Text(text) => Some(Cow::Borrowed(text.trim())),
        Json::Number(number) => Some(Cow::Owned(number.to_string())),
        Json::Truth(_) | Json::List | Json::Object(_) => Some(Cow::Borrowed("?")),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Phone,
    Lid,
    /// Not a person, and so never answered.
    Chat(IgnoreReason),
    /// A server we know nothing about.
    Other,
}

/// One name of a chat.
#[derive(Debug)]
struct Name {
    kind: Kind,
    address: Address,
    reply_to: String,
}

impl Name {
    fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST_BYTES {
            return None;
        }
        match text.split_once('@') {
            None => Name::phone(text),
            Some((user, "s.whatsapp.net" | "c.us")) => {
                // `user_agent:device@…` is one device of the user.
                Name::phone(user.split([':', '_']).next()?)
            }
            Some((_, server)) => {
                let kind = match server {
                    "lid" => Kind::Lid,
                    "g.us" => Kind::Chat(IgnoreReason::Group),
                    "broadcast" => Kind::Chat(IgnoreReason::Broadcast),
                    "newsletter" => Kind::Chat(IgnoreReason::Newsletter),
                    _ => Kind::Other,
                };
                let is_plain = !server.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                let address = Address::jid(text).filter(|_| is_plain)?;
                Some(Name { kind, address, reply_to: text.to_owned() })
            }
        }
    }

    /// A phone as people write it. A full stop is not among the signs: `5511999990001.0` would be another number.
    fn phone(text: &str) -> Option<Self> {
        if !text.chars().all(|it| it.is_ascii_digit() || matches!(it, '+' | '-' | ' ' | '(' | ')')) {
            return None;
        }
        let reply_to = text.chars().filter(char::is_ascii_digit).collect();
        Some(Name { kind: Kind::Phone, address: Address::phone(text)?, reply_to })
    }

    fn into_sender(self, others: Vec<Alias>) -> Sender {
        let ignore = match self.kind {
            Kind::Chat(reason) => Some(reason),
            Kind::Phone | Kind::Lid | Kind::Other => None,
        };
        let mut aliases = others;
        aliases.insert(0, self.address.clone());
        Sender { address: self.address, aliases, reply_to: self.reply_to, ignore }
    }
}
