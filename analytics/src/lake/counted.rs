//! What is counted of a payload, of any kind of event.
//!
//! The fields of all kinds are read side by side, whatever the kind: what a payload does not have is absent. Everything
//! else is skipped while parsing, so that no text reaches memory that could reach a file; of a text only its length is kept.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use uuid::Uuid;

/// The counted fields of a payload.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Counted {
    // Messages.
    pub(super) channel: Option<Label>,
    pub(super) author: Option<Label>,
    pub(super) content: Option<Content>,
    pub(super) ignore: Option<Label>,
    pub(super) message_id: Lenient<Uuid>,
    pub(super) body: Option<Characters>,
    pub(super) purpose: Option<Label>,
    // Work that ended.
    pub(super) turn_id: Lenient<Uuid>,
    pub(super) delivery_id: Lenient<Uuid>,
    pub(super) conversation_id: Lenient<Uuid>,
    pub(super) contact_id: Lenient<Uuid>,
    pub(super) outcome: Option<Label>,
    pub(super) reason: Option<Label>,
    pub(super) messages_in: Lenient<i64>,
    pub(super) attempts: Lenient<i64>,
    pub(super) answer_ms: Lenient<i64>,
    pub(super) took_ms: Lenient<i64>,
    // Usage.
    pub(super) fact: Option<Label>,
    pub(super) model: Option<Label>,
    pub(super) input: Lenient<i64>,
    pub(super) output: Lenient<i64>,
    pub(super) cached: Lenient<i64>,
    // What companies are notified of.
    pub(super) feature: Option<Label>,
    pub(super) threshold: Lenient<i64>,
}

/// The content of a message: its type, and how long its text is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    pub(super) r#type: Option<Label>,
    /// Of a medium.
    pub(super) kind: Option<Label>,
    pub(super) body: Option<Characters>,
    pub(super) label: Option<Characters>,
    pub(super) caption: Option<Characters>,
}

impl Counted {
    /// What the event is about: a message, a turn or a delivery.
    pub(super) fn subject(&self) -> Option<Uuid> {
        self.turn_id.0.or(self.delivery_id.0).or(self.message_id.0)
    }

    /// The length of its text in characters.
    pub(super) fn characters(&self) -> Option<i64> {
        let content = self.content.as_ref();
        let of_content = content.and_then(|it| it.body.or(it.label).or(it.caption));
        self.body.or(of_content).map(|it| it.0)
    }

    /// The type of its content; of media, which one.
    pub(super) fn content_type(&self) -> Option<&str> {
        let content = self.content.as_ref()?;
        content.kind.as_ref().or(content.r#type.as_ref()).map(Label::as_str)
    }
}

/// A number or an id; absent where a payload has something else in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Lenient(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// As it should be, or anything.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value<T> {
            Expected(T),
            Other(IgnoredAny),
        }
        match Value::deserialize(from)? {
            Value::Expected(value) => Ok(Lenient(Some(value))),
            Value::Other(_) => Ok(Lenient(None)),
        }
    }
}

/// The longest label that is kept.
const MAX_LABEL: usize = 64;

/// A word of a closed vocabulary: an outcome, a channel, a model's name. What does not look like one (it begins with a small
/// letter, and has only small letters, digits and `_-./:`) is not kept, so that
/// a payload with a text in such a field leaves no text in the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label(String);

impl Label {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn of(text: &str) -> Self {
        let is_plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':')
        };
        let begins = text.starts_with(|it: char| it.is_ascii_lowercase());
        match begins && text.len() <= MAX_LABEL && text.bytes().all(is_plain) {
            true => Label(text.to_owned()),
            false => Label("other".into()),
        }
    }
}

/// The number of characters of a text that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Characters(pub(super) i64);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor).map(|it| it.0)
    }
}

impl<'de> Deserialize<'de> for Characters {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor).map(|it| it.1)
    }
}

/// Reads a text without keeping it. What is no text has the label `other` and no characters, since a field may have another
/// form in a later version.
struct TextVisitor;

impl TextVisitor {
    fn other<E>() -> Result<(Label, Characters), E> {
        Ok((Label("other".into()), Characters(0)))
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = (Label, Characters);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok((Label::of(text), Characters(i64::try_from(text.chars().count()).unwrap_or(i64::MAX))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Self::other()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Self::other()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Self::other()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Self::other()
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Self::other()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Self::other()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Self::other()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Counted {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn of_a_text_only_its_length_is_kept() {
        let message = read(
            r#"{"channel":"whaticket","address":"5511988887777","name":"Ana","author":"contact",
                "content":{"type":"text","body":"Olá, tudo bem?"}}"#,
        );
        assert_eq!(message.characters(), Some(14));
        assert_eq!(message.content_type(), Some("text"));
        let kept = format!("{message:?}");
        assert!(!kept.contains("Ol") && !kept.contains("Ana") && !kept.contains("5511"), "{kept}");
    }

    #[test]
    fn a_text_where_a_label_belongs_is_not_kept() {
        let event =
            read(r#"{"outcome":"a customer wrote this","reason":"x".repeat}"#.replace(r#""x".repeat"#, "7").as_str());
        assert_eq!(event.outcome.unwrap().as_str(), "other");
        assert_eq!(event.reason.unwrap().as_str(), "other");
        for personal in ["5511988887777", "Ana", "+5511988887777", "ana@example.com"] {
            let event = read(&format!(r#"{{"reason":"{personal}"}}"#));
            assert_eq!(event.reason.unwrap().as_str(), "other", "{personal}");
        }
        let long = read(&format!(r#"{{"model":"{}"}}"#, "m".repeat(65)));
        assert_eq!(long.model.unwrap().as_str(), "other");
        assert_eq!(read(r#"{"model":"gemini-2.5-flash"}"#).model.unwrap().as_str(), "gemini-2.5-flash");
    }

    #[test]
    fn the_type_of_media_is_which_one() {
        let picture = read(r#"{"content":{"type":"media","kind":"image","caption":"oi"}}"#);
        assert_eq!((picture.content_type(), picture.characters()), (Some("image"), Some(2)));
    }

    #[test]
    fn fields_of_a_later_version_are_skipped() {
        let event = read(
            r#"{"outcome":{"of":["a","later"]},"attempts":2,"answer_ms":"soon","turn_id":7,"new":[1,{"a":null}]}"#,
        );
        assert_eq!((event.outcome.unwrap().as_str(), event.attempts.0), ("other", Some(2)));
        assert_eq!((event.answer_ms.0, event.turn_id.0), (None, None));
    }
}
