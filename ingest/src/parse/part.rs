//! The parts of a WhatsApp message object, as Baileys and its bridges write them.
//!
//! Field names: `message Message` of <https://github.com/WhiskeySockets/Baileys/blob/master/WAProto/WAProto.proto>.
//! Enums come as names or as integers. Wrappers nest; the JSON reader's limit of 128 levels bounds them.

use std::borrow::Cow;

use domain::{Content, IgnoreReason, MediaKind};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use serde_json::Number;

use super::content::{Message, MessageContent};
use super::json::Json;
use super::text;
use super::unsupported::UnsupportedKind;

/// The known keys. Of several in one message the first in this order is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(super) enum MessagePart {
    EphemeralMessage,
    ViewOnceMessage,
    ViewOnceMessageV2,
    ViewOnceMessageV2Extension,
    DocumentWithCaptionMessage,
    DeviceSentMessage,
    LottieStickerMessage,
    EditedMessage,
    ProtocolMessage,
    Conversation,
    ExtendedTextMessage,
    ButtonsResponseMessage,
    TemplateButtonReplyMessage,
    ListResponseMessage,
    InteractiveResponseMessage,
    ImageMessage,
    VideoMessage,
    PtvMessage,
    DocumentMessage,
    AudioMessage,
    LocationMessage,
    LiveLocationMessage,
    ContactMessage,
    ContactsArrayMessage,
    StickerMessage,
    ReactionMessage,
    /// Accompanies a message; has no content of its own.
    MessageContextInfo,
    /// Accompanies the first message in a group.
    SenderKeyDistributionMessage,
    /// In place of a message that only the phone has; that message may follow under the same id.
    PlaceholderMessage,
    Unsupported(UnsupportedKind),
}

impl MessagePart {
    /// Reads this part's value. A value of an unexpected structure is `Unknown`, not an error.
    pub(super) fn read<'de, A: MapAccess<'de>>(self, map: &mut A) -> Result<Message, A::Error> {
        let media = |kind, it: Json<'de, Captioned<'de>>| readable(it, |it| Some(it.content(kind)));
        Ok(match self {
            MessagePart::EphemeralMessage
            | MessagePart::ViewOnceMessage
            | MessagePart::ViewOnceMessageV2
            | MessagePart::ViewOnceMessageV2Extension
            | MessagePart::DocumentWithCaptionMessage
            | MessagePart::DeviceSentMessage
            | MessagePart::LottieStickerMessage => unwrapped(map.next_value()?),
            MessagePart::EditedMessage => edited(unwrapped(map.next_value()?)),
            MessagePart::ProtocolMessage => readable(map.next_value()?, |it: Protocol<'de>| Some(it.content())),
            MessagePart::Conversation => {
                let conversation: Json<'de> = map.next_value()?;
                conversation
                    .into_text_or_number()
                    .map_or(Message::Unknown, |typed| Message::Readable(typed_text(typed, None)))
            }
            MessagePart::ExtendedTextMessage => readable(map.next_value()?, ExtendedText::content),
            MessagePart::ButtonsResponseMessage | MessagePart::TemplateButtonReplyMessage => {
                readable(map.next_value()?, |it: ButtonReply<'de>| Some(it.content()))
            }
            MessagePart::ListResponseMessage => readable(map.next_value()?, |it: ListReply<'de>| Some(it.content())),
            MessagePart::InteractiveResponseMessage => {
                readable(map.next_value()?, |it: FlowReply<'de>| Some(it.content()))
            }
            MessagePart::ImageMessage => media(MediaKind::Image, map.next_value()?),
            MessagePart::VideoMessage | MessagePart::PtvMessage => media(MediaKind::Video, map.next_value()?),
            MessagePart::DocumentMessage => media(MediaKind::Document, map.next_value()?),
            MessagePart::AudioMessage => media(MediaKind::Audio, map.next_value()?),
            MessagePart::LocationMessage | MessagePart::LiveLocationMessage => {
                media(MediaKind::Location, map.next_value()?)
            }
            MessagePart::ContactMessage | MessagePart::ContactsArrayMessage => {
                media(MediaKind::ContactCard, map.next_value()?)
            }
            MessagePart::StickerMessage => media(MediaKind::Sticker, map.next_value()?),
            MessagePart::ReactionMessage => readable(map.next_value()?, |it: Reaction<'de>| Some(it.content())),
            MessagePart::MessageContextInfo
            | MessagePart::SenderKeyDistributionMessage
            | MessagePart::PlaceholderMessage => {
                map.next_value::<IgnoredAny>()?;
                Message::Empty
            }
            MessagePart::Unsupported(kind) => {
                let content: Json<'de> = map.next_value()?;
                if content.is_present() { Message::Unsupported(kind) } else { Message::Unknown }
            }
        })
    }
}

fn readable<T>(part: Json<'_, T>, content: impl FnOnce(T) -> Option<MessageContent>) -> Message {
    part.into_object().and_then(content).map_or(Message::Unknown, Message::Readable)
}

/// A message that contains another one, such as a disappearing message.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wrapper<'a> {
    #[serde(borrow)]
    message: Json<'a, Message>,
}

fn unwrapped(wrapper: Json<'_, Wrapper<'_>>) -> Message {
    match wrapper.into_object().map(|it| it.message) {
        Some(Json::Object(message)) => message,
        Some(Json::Missing) => Message::Empty,
        _ => Message::Unknown,
    }
}

/// An edit of an earlier message keeps the new text, and is ignored whatever its content.
fn edited(message: Message) -> Message {
    let content = match message {
        Message::Readable(content) => content,
        Message::Empty | Message::Unsupported(_) | Message::Unknown => MessageContent::stub(),
    };
    Message::Readable(MessageContent { ignore: Some(IgnoreReason::Edited), ..content })
}

/// Text of blanks alone is valid and not answered.
fn typed_text(typed: Cow<'_, str>, quotes: Option<String>) -> MessageContent {
    let body = text::body(typed);
    let ignore = body.trim().is_empty().then_some(IgnoreReason::Stub);
    MessageContent { content: Content::Text { body }, quotes, ignore }
}

/// A choice without a label shows its id; one with neither is not answered.
fn choice(id: Json<'_>, label: Option<String>, quotes: Option<String>) -> MessageContent {
    let id = text::non_blank_body(id.into_text_or_number());
    let ignore = (id.is_none() && label.is_none()).then_some(IgnoreReason::Stub);
    let label = label.or_else(|| id.clone()).unwrap_or_default();
    MessageContent { content: Content::Choice { id, label }, quotes, ignore }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContextInfo<'a> {
    #[serde(borrow, rename = "stanzaId")]
    stanza_id: Json<'a>,
}

fn quoted(context: &Json<'_, ContextInfo<'_>>) -> Option<String> {
    context.object()?.stanza_id.text().and_then(text::id)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExtendedText<'a> {
    #[serde(borrow)]
    text: Json<'a>,
    #[serde(borrow)]
    context_info: Json<'a, ContextInfo<'a>>,
}

impl ExtendedText<'_> {
    fn content(self) -> Option<MessageContent> {
        let quotes = quoted(&self.context_info);
        Some(typed_text(self.text.into_text_or_number()?, quotes))
    }
}

/// Both kinds of button reply; they differ in the name of the id.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ButtonReply<'a> {
    #[serde(borrow, alias = "selectedId")]
    selected_button_id: Json<'a>,
    #[serde(borrow)]
    selected_display_text: Json<'a>,
    #[serde(borrow)]
    context_info: Json<'a, ContextInfo<'a>>,
}

impl ButtonReply<'_> {
    fn content(self) -> MessageContent {
        let label = text::non_blank_body(self.selected_display_text.into_text_or_number());
        choice(self.selected_button_id, label, quoted(&self.context_info))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListReply<'a> {
    #[serde(borrow)]
    title: Json<'a>,
    #[serde(borrow)]
    single_select_reply: Json<'a, SelectedRow<'a>>,
    #[serde(borrow)]
    context_info: Json<'a, ContextInfo<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SelectedRow<'a> {
    #[serde(borrow, rename = "selectedRowId")]
    selected_row_id: Json<'a>,
}

impl ListReply<'_> {
    fn content(self) -> MessageContent {
        let row = self.single_select_reply.into_object().unwrap_or_default();
        choice(row.selected_row_id, text::non_blank_body(self.title.into_text_or_number()), quoted(&self.context_info))
    }
}

/// A reply to native flow buttons or lists. What was chosen is JSON inside a string.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FlowReply<'a> {
    #[serde(borrow)]
    body: Json<'a, FlowBody<'a>>,
    #[serde(borrow)]
    native_flow_response_message: Json<'a, FlowResponse<'a>>,
    #[serde(borrow)]
    context_info: Json<'a, ContextInfo<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FlowBody<'a> {
    #[serde(borrow)]
    text: Json<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FlowResponse<'a> {
    #[serde(borrow, rename = "paramsJson")]
    params_json: Json<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FlowParams<'a> {
    #[serde(borrow)]
    id: Json<'a>,
    #[serde(borrow)]
    display_text: Json<'a>,
}

impl FlowReply<'_> {
    fn content(self) -> MessageContent {
        let response = self.native_flow_response_message.into_object().unwrap_or_default();
        let params =
            response.params_json.text().and_then(|json| serde_json::from_str::<Json<'_, FlowParams<'_>>>(json).ok());
        let params = params.and_then(Json::into_object).unwrap_or_default();
        let body = self.body.into_object().unwrap_or_default();
        let label = text::non_blank_body(body.text.into_text_or_number())
            .or_else(|| text::non_blank_body(params.display_text.into_text_or_number()));
        choice(params.id, label, quoted(&self.context_info))
    }
}

/// Media of every kind; some have a caption.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Captioned<'a> {
    #[serde(borrow)]
    caption: Json<'a>,
    #[serde(borrow)]
    context_info: Json<'a, ContextInfo<'a>>,
}

impl Captioned<'_> {
    fn content(self, kind: MediaKind) -> MessageContent {
        let caption = text::non_blank_body(self.caption.into_text_or_number());
        MessageContent { content: Content::Media { kind, caption }, quotes: quoted(&self.context_info), ignore: None }
    }
}

/// The message a reaction, an edit or a removal is about.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MessageRef<'a> {
    #[serde(borrow)]
    id: Json<'a>,
}

fn referenced_id(key: &Json<'_, MessageRef<'_>>) -> Option<String> {
    key.object()?.id.text().and_then(text::id)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reaction<'a> {
    #[serde(borrow)]
    key: Json<'a, MessageRef<'a>>,
    #[serde(borrow)]
    text: Json<'a>,
}

impl Reaction<'_> {
    fn content(self) -> MessageContent {
        let emoji = text::non_blank_body(self.text.into_text_or_number()).unwrap_or_default();
        MessageContent {
            content: Content::Reaction { emoji },
            quotes: referenced_id(&self.key),
            ignore: Some(IgnoreReason::Reaction),
        }
    }
}

/// A message between apps: revocations and edits refer to a message, the rest is not meant for people.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Protocol<'a> {
    #[serde(borrow)]
    key: Json<'a, MessageRef<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Json<'a>,
    #[serde(borrow, rename = "editedMessage")]
    edited_message: Json<'a, Message>,
}

impl Protocol<'_> {
    fn content(self) -> MessageContent {
        let kind = |name: &str, number: u64| match &self.kind {
            Json::Text(text) => text == name,
            Json::Number(it) => *it == Number::from(number),
            _ => false,
        };
        let is_revoke = kind("REVOKE", 0);
        let is_edit = kind("MESSAGE_EDIT", 14) || self.edited_message.is_present();
        let quotes = referenced_id(&self.key);
        match self.edited_message.into_object() {
            _ if is_revoke => MessageContent { content: Content::Nothing, quotes, ignore: Some(IgnoreReason::Revoked) },
            Some(Message::Readable(content)) => {
                MessageContent { quotes, ignore: Some(IgnoreReason::Edited), ..content }
            }
            _ if is_edit => MessageContent { content: Content::Nothing, quotes, ignore: Some(IgnoreReason::Edited) },
            _ => MessageContent { content: Content::Nothing, quotes, ignore: Some(IgnoreReason::Stub) },
        }
    }
}
