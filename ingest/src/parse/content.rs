//! What a WhatsApp message object says. It has one part per key; see [`super::part`] for what each holds.

use std::fmt;

use domain::{Content, IgnoreReason};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::part::Part;
use super::unsupported::UnsupportedKind;

#[derive(Debug)]
pub(super) enum Message {
    /// It says something we know how to read.
    Said(Said),
    /// A shell: nothing in it but what accompanies a message.
    Bare,
    /// It has content, of a kind that we do not read.
    Unsupported(UnsupportedKind),
    /// Nothing that is a message: no content, or content we read in a form it never has.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Said {
    pub(super) content: Content,
    /// The provider's id of the message it answers or is about.
    pub(super) quotes: Option<String>,
    /// Why nobody should answer, as far as the content shows it.
    pub(super) ignore: Option<IgnoreReason>,
}

impl Said {
    /// A message of which nothing arrived.
    pub(super) fn stub() -> Self {
        Said { content: Content::Nothing, quotes: None, ignore: Some(IgnoreReason::Stub) }
    }

    /// A message that arrived and that we cannot read.
    pub(super) fn unsupported() -> Self {
        Said { content: Content::Nothing, quotes: None, ignore: Some(IgnoreReason::UnsupportedKind) }
    }

    /// Whether nothing of it arrived, or nothing was ever meant for people.
    pub(super) fn is_shell(&self) -> bool {
        self.is_stub() && self.content == Content::Nothing
    }

    fn is_stub(&self) -> bool {
        self.ignore == Some(IgnoreReason::Stub)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(EveryPart)
    }
}

struct EveryPart;

impl<'de> Visitor<'de> for EveryPart {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message object")
    }

    /// Of several parts the first in [`Part`]'s order counts; one that we cannot read only if there is none that we can,
    /// and an empty one only if there is no other at all.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let mut best: Option<((bool, Part), Said)> = None;
        let mut unsupported: Option<UnsupportedKind> = None;
        let mut has_bare = false;
        let mut has_unknown = false;
        while let Some(part) = map.next_key::<Part>()? {
            match part.read(&mut map)? {
                Message::Said(said) => {
                    let order = (said.is_stub(), part);
                    if best.as_ref().is_none_or(|(earlier, _)| order < *earlier) {
                        best = Some((order, said));
                    }
                }
                Message::Unsupported(kind) => unsupported = Some(unsupported.map_or(kind, |earlier| earlier.min(kind))),
                Message::Bare => has_bare = true,
                Message::Unknown => has_unknown = true,
            }
        }
        Ok(match (best, unsupported) {
            (Some((_, said)), None) => Message::Said(said),
            (Some(((false, _), said)), _) => Message::Said(said),
            (_, Some(kind)) => Message::Unsupported(kind),
            (None, None) if has_bare && !has_unknown => Message::Bare,
            (None, None) => Message::Unknown,
        })
    }
}
