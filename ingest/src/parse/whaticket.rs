//! The two bodies of `POST /webhook/whaticket`: a bridge's (`message` with `number` or `ticket`) and the raw Baileys
//! message that Whaticket forks pass on (`key`, `messageTimestamp`, `message`). One parser reads both.

use domain::{Author, Channel, Content, IgnoreReason, InboundMessage};
use jiff::{SignedDuration, Timestamp};

use super::content::MessageContent;
use super::hook::Hook;
use super::json::Json;
use super::{Parsed, repair, sender};
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
