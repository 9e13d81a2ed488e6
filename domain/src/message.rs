//! A message of a chat, as ingest parsed it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Address, Alias, Author, Channel, IgnoreReason};

/// One inbound message: its writer, where to answer, and its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboundMessage {
    /// The channel it came through.
    pub channel: Channel,
    /// The chat, in comparable form: part of the record's key.
    pub address: Address,
    /// Every address the provider gave for the writer, the chat's first.
    pub aliases: Vec<Alias>,
    /// Where an answer goes, exactly as the provider reported it: digits, or an id with `@`.
    pub reply_to: String,
    /// The provider's id of the message, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Which side wrote it.
    pub author: Author,
    /// The name the writer shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub content: Content,
    /// The provider's id of the message this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotes: Option<String>,
    /// Why it needs no answer, where its form alone shows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<IgnoreReason>,
}

impl InboundMessage {
    /// The message with the address that this version gives its writer. Records of releases before 0.2.0 name a mobile
    /// whose ninth digit is followed by 0–5 as if it were a landline; `reply_to` shows which it is.
    pub fn in_present_form(&self) -> Cow<'_, Self> {
        let present = Address::trusted(&self.reply_to);
        if present.former_form().as_ref() != Some(&self.address) {
            return Cow::Borrowed(self);
        }
        let mut message = self.clone();
        let former = std::mem::replace(&mut message.address, present.clone());
        message.aliases.iter_mut().filter(|it| **it == former).for_each(|it| *it = present.clone());
        Cow::Owned(message)
    }
}

/// What a message holds. The id and the label of a choice are kept apart: the id is for us, the label for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    Text {
        body: String,
    },
    /// A button or a list row was tapped.
    Choice {
        /// The id we gave it, if the provider kept it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// What the person saw.
        label: String,
    },
    /// A picture, a voice note and the like.
    Media {
        kind: MediaKind,
        /// The text under it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
    },
    /// An emoji on another message.
    Reaction {
        /// The emoji; empty when the reaction was removed.
        emoji: String,
    },
    /// Nothing that can be read: a stub, a removal.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    Image,
    Video,
    Document,
    /// A voice note or a sound.
    Audio,
    Sticker,
    Location,
    ContactCard,
}

impl Content {
    /// The message as one line of text for a model or a person, with Portuguese names for what is not text.
    pub fn as_text(&self) -> String {
        match self {
            Content::Text { body } => body.clone(),
            Content::Choice { label, .. } => label.clone(),
            Content::Media { kind, caption: None } => format!("[{}]", kind.in_portuguese()),
            Content::Media { kind, caption: Some(caption) } => format!("[{}] {caption}", kind.in_portuguese()),
            Content::Reaction { emoji } => format!("[reação] {emoji}"),
            Content::Nothing => String::new(),
        }
    }
}

impl MediaKind {
    fn in_portuguese(self) -> &'static str {
        match self {
            MediaKind::Image => "imagem",
            MediaKind::Video => "vídeo",
            MediaKind::Document => "documento",
            MediaKind::Audio => "áudio",
            MediaKind::Sticker => "figurinha",
            MediaKind::Location => "localização",
            MediaKind::ContactCard => "contato",
        }
    }
}
