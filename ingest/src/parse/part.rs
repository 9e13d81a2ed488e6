//! The parts of a WhatsApp message object, as Baileys and its bridges write them.
//!
//! Field names: `message Message` of <https://github.com/WhiskeySockets/Baileys/blob/master/WAProto/WAProto.proto>.
//! Enums come as names or as integers. Wrappers nest; the JSON reader's limit of 128 levels bounds them.

use std::borrow::Cow;

use domain::{Content, IgnoreReason, MediaKind};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use serde_json::Number;

use super::content::{Message, Said};
use super::json::Json;
use super::text;
use super::unsupported::UnsupportedKind;

/// The keys we know, in the order in which they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(super) enum Part {
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
    /// Accompanies a message; says nothing itself.
    MessageContextInfo,
    /// Accompanies the first message in a group.
    SenderKeyDistributionMessage,
    /// Stands in for a message that is on the phone alone; what it stands for may follow under the same id.
    PlaceholderMessage,
    Unsupported(UnsupportedKind),
}

impl Part {
    /// Reads this part's value. A value of another form than the part has is unknown, not an error.
    pub(super) fn read<'de, A: MapAccess<'de>>(self, map: &mut A) -> Result<Message, A::Error> {
        let media = |kind, it: Json<'de, Captioned<'de>>| understood(it, |it| Some(it.said(kind)));
        Ok(match self {
            Part::EphemeralMessage
            | Part::ViewOnceMessage
            | Part::ViewOnceMessageV2
            | Part::ViewOnceMessageV2Extension
            | Part::DocumentWithCaptionMessage
            | Part::DeviceSentMessage
            | Part::LottieStickerMessage => unwrapped(map.next_value()?),
            Part::EditedMessage => edited(unwrapped(map.next_value()?)),
            Part::ProtocolMessage => understood(map.next_value()?, |it: Protocol<'de>| Some(it.said())),
            Part::Conversation => {
                let conversation: Json<'de> = map.next_value()?;
                conversation.into_written().map_or(Message::Unknown, |typed| Message::Said(typed_text(typed, None)))
            }
            Part::ExtendedTextMessage => understood(map.next_value()?, ExtendedText::said),
            Part::ButtonsResponseMessage | Part::TemplateButtonReplyMessage => {
                understood(map.next_value()?, |it: ButtonReply<'de>| Some(it.said()))
            }
            Part::ListResponseMessage => understood(map.next_value()?, |it: ListReply<'de>| Some(it.said())),
            Part::InteractiveResponseMessage => understood(map.next_value()?, |it: FlowReply<'de>| Some(it.said())),
            Part::ImageMessage => media(MediaKind::Image, map.next_value()?),
            Part::VideoMessage | Part::PtvMessage => media(MediaKind::Video, map.next_value()?),
            Part::DocumentMessage => media(MediaKind::Document, map.next_value()?),
            Part::AudioMessage => media(MediaKind::Audio, map.next_value()?),
            Part::LocationMessage | Part::LiveLocationMessage => media(MediaKind::Location, map.next_value()?),
            Part::ContactMessage | Part::ContactsArrayMessage => media(MediaKind::ContactCard, map.next_value()?),
            Part::StickerMessage => media(MediaKind::Sticker, map.next_value()?),
            Part::ReactionMessage => understood(map.next_value()?, |it: Reaction<'de>| Some(it.said())),
            Part::MessageContextInfo | Part::SenderKeyDistributionMessage | Part::PlaceholderMessage => {
                map.next_value::<IgnoredAny>()?;
                Message::Bare
            }
            Part::Unsupported(kind) => {
                let content: Json<'de> = map.next_value()?;
                if content.is_present() { Message::Unsupported(kind) } else { Message::Unknown }
            }
        })
    }
}

fn understood<T>(part: Json<'_, T>, said: impl FnOnce(T) -> Option<Said>) -> Message {
    part.into_object().and_then(said).map_or(Message::Unknown, Message::Said)
}

/// A message inside another, such as a disappearing one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wrapper<'a> {
    #[serde(borrow)]
    message: Json<'a, Message>,
}

fn unwrapped(wrapper: Json<'_, Wrapper<'_>>) -> Message {
    match wrapper.into_object().map(|it| it.message) {
        Some(Json::Object(message)) => message,
        Some(Json::Missing) => Message::Bare,
        _ => Message::Unknown,
    }
}

/// A change to an earlier message keeps the new text, and is ignored whatever it holds.
fn edited(message: Message) -> Message {
    let said = match message {
        Message::Said(said) => said,
        Message::Bare | Message::Unsupported(_) | Message::Unknown => Said::stub(),
    };
    Message::Said(Said { ignore: Some(IgnoreReason::Edited), ..said })
}

/// Text of blanks alone was understood and says nothing.
fn typed_text(typed: Cow<'_, str>, quotes: Option<String>) -> Said {
    let body = text::body(typed);
    let ignore = body.trim().is_empty().then_some(IgnoreReason::Stub);
    Said { content: Content::Text { body }, quotes, ignore }
}

/// A tap whose label the provider did not keep shows its id; one with neither says nothing.
fn choice(id: Json<'_>, label: Option<String>, quotes: Option<String>) -> Said {
    let id = text::some_body(id.into_written());
    let ignore = (id.is_none() && label.is_none()).then_some(IgnoreReason::Stub);
    let label = label.or_else(|| id.clone()).unwrap_or_default();
    Said { content: Content::Choice { id, label }, quotes, ignore }
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
    fn said(self) -> Option<Said> {
        let quotes = quoted(&self.context_info);
        Some(typed_text(self.text.into_written()?, quotes))
    }
}

/// Both sorts of button replies; they differ in the name of the id.
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
    fn said(self) -> Said {
        let label = text::some_body(self.selected_display_text.into_written());
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
    fn said(self) -> Said {
        let row = self.single_select_reply.into_object().unwrap_or_default();
        choice(row.selected_row_id, text::some_body(self.title.into_written()), quoted(&self.context_info))
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
    fn said(self) -> Said {
        let response = self.native_flow_response_message.into_object().unwrap_or_default();
        let params =
            response.params_json.text().and_then(|json| serde_json::from_str::<Json<'_, FlowParams<'_>>>(json).ok());
        let params = params.and_then(Json::into_object).unwrap_or_default();
        let body = self.body.into_object().unwrap_or_default();
        let label =
            text::some_body(body.text.into_written()).or_else(|| text::some_body(params.display_text.into_written()));
        choice(params.id, label, quoted(&self.context_info))
    }
}

/// Media of every kind: some of them have a caption.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Captioned<'a> {
    #[serde(borrow)]
    caption: Json<'a>,
    #[serde(borrow)]
    context_info: Json<'a, ContextInfo<'a>>,
}

impl Captioned<'_> {
    fn said(self, kind: MediaKind) -> Said {
        let caption = text::some_body(self.caption.into_written());
        Said { content: Content::Media { kind, caption }, quotes: quoted(&self.context_info), ignore: None }
    }
}

/// The message a reaction, an edit or a removal is about.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Target<'a> {
    #[serde(borrow)]
    id: Json<'a>,
}

fn target(key: &Json<'_, Target<'_>>) -> Option<String> {
    key.object()?.id.text().and_then(text::id)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reaction<'a> {
    #[serde(borrow)]
    key: Json<'a, Target<'a>>,
    #[serde(borrow)]
    text: Json<'a>,
}

impl Reaction<'_> {
    fn said(self) -> Said {
        let emoji = text::some_body(self.text.into_written()).unwrap_or_default();
        Said { content: Content::Reaction { emoji }, quotes: target(&self.key), ignore: Some(IgnoreReason::Reaction) }
    }
}

/// A word between apps: removals and edits concern a message, the rest concerns nobody.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Protocol<'a> {
    #[serde(borrow)]
    key: Json<'a, Target<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Json<'a>,
    #[serde(borrow, rename = "editedMessage")]
    edited_message: Json<'a, Message>,
}

impl Protocol<'_> {
    fn said(self) -> Said {
        let kind = |name: &str, number: u64| match &self.kind {
            Json::Text(text) => text == name,
            Json::Number(it) => *it == Number::from(number),
            _ => false,
        };
        let is_revoke = kind("REVOKE", 0);
        let is_edit = kind("MESSAGE_EDIT", 14) || self.edited_message.is_present();
        let quotes = target(&self.key);
        match self.edited_message.into_object() {
            _ if is_revoke => Said { content: Content::Nothing, quotes, ignore: Some(IgnoreReason::Revoked) },
            Some(Message::Said(said)) => Said { quotes, ignore: Some(IgnoreReason::Edited), ..said },
            _ if is_edit => Said { content: Content::Nothing, quotes, ignore: Some(IgnoreReason::Edited) },
            _ => Said { content: Content::Nothing, quotes, ignore: Some(IgnoreReason::Stub) },
        }
    }
}
