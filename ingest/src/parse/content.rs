//! The content of a WhatsApp message object. The object has one part per key; [`super::part`] describes each.

use std::fmt;

use domain::{Content, IgnoreReason};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::part::MessagePart;
use super::unsupported::UnsupportedKind;

#[derive(Debug)]
pub(super) enum Message {
    /// It has content of a kind that we read.
    Readable(MessageContent),
    /// Without content: only what accompanies a message.
    Empty,
    /// It has content of a kind that we do not read.
    Unsupported(UnsupportedKind),
    /// Not a message: no content, or a known kind of content with an unexpected structure.
    Unknown,
}

#[derive(Debug)]
pub(super) struct MessageContent {
    pub(super) content: Content,
    /// The provider's id of the message that it quotes or refers to.
    pub(super) quotes: Option<String>,
    /// Why it is not to be answered, as far as the content shows it.
    pub(super) ignore: Option<IgnoreReason>,
}

impl MessageContent {
    /// A message whose content did not arrive.
    pub(super) fn stub() -> Self {
        MessageContent { content: Content::Nothing, quotes: None, ignore: Some(IgnoreReason::Stub) }
    }

    /// A message whose content is of a kind that we do not read.
    pub(super) fn unsupported() -> Self {
        MessageContent { content: Content::Nothing, quotes: None, ignore: Some(IgnoreReason::UnsupportedKind) }
    }

    /// Whether it has no content: none arrived, or it is meant for apps and not for people.
    pub(super) fn is_without_content(&self) -> bool {
        self.is_stub() && self.content == Content::Nothing
    }

    fn is_stub(&self) -> bool {
        self.ignore == Some(IgnoreReason::Stub)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message object")
    }

    /// Of several parts the first in [`MessagePart`]'s order is used; one that we do not read only if there is none that we do,
    /// and an empty one only if there is no other at all.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let mut best: Option<((bool, MessagePart), MessageContent)> = None;
        let mut unsupported: Option<UnsupportedKind> = None;
        let mut has_empty = false;
        let mut has_unknown = false;
        while let Some(part) = map.next_key::<MessagePart>()? {
            match part.read(&mut map)? {
                Message::Readable(content) => {
                    let order = (content.is_stub(), part);
                    if best.as_ref().is_none_or(|(earlier, _)| order < *earlier) {
                        best = Some((order, content));
                    }
                }
                Message::Unsupported(kind) => unsupported = Some(unsupported.map_or(kind, |earlier| earlier.min(kind))),
                Message::Empty => has_empty = true,
                Message::Unknown => has_unknown = true,
            }
        }
        Ok(match (best, unsupported) {
            (Some((_, content)), None) => Message::Readable(content),
            (Some(((false, _), content)), _) => Message::Readable(content),
            (_, Some(kind)) => Message::Unsupported(kind),
            (None, None) if has_empty && !has_unknown => Message::Empty,
            (None, None) => Message::Unknown,
        })
    }
}
