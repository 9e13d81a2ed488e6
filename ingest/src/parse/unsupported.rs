//! Kinds of content that we do not read: a bounded set of names, for the label of a metric.
//!
//! Field names: `message Message` of <https://github.com/WhiskeySockets/Baileys/blob/master/WAProto/WAProto.proto>.

use serde::Deserialize;

/// A kind of content that we do not read. Of several in one message the first in this order is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(field_identifier)]
pub enum UnsupportedKind {
    /// A poll, a vote in one, or its result.
    #[serde(
        rename = "pollCreationMessage",
        alias = "pollCreationMessageV2",
        alias = "pollCreationMessageV3",
        alias = "pollCreationMessageV4",
        alias = "pollCreationMessageV5",
        alias = "pollUpdateMessage",
        alias = "pollResultSnapshotMessage"
    )]
    Poll,
    /// A cart sent from a catalogue.
    #[serde(rename = "orderMessage")]
    Order,
    /// A product of a catalogue.
    #[serde(rename = "productMessage")]
    Product,
    /// A call, or a note about one.
    #[serde(
        rename = "call",
        alias = "bcallMessage",
        alias = "callLogMesssage",
        alias = "callLogMessage",
        alias = "scheduledCallCreationMessage",
        alias = "scheduledCallEditMessage"
    )]
    Call,
    /// A message pinned, or kept.
    #[serde(rename = "pinInChatMessage", alias = "keepInChatMessage")]
    Pin,
    /// An invitation to a group or a channel.
    #[serde(rename = "groupInviteMessage", alias = "newsletterAdminInviteMessage")]
    GroupInvite,
    /// An event, or an answer to one.
    #[serde(rename = "eventMessage", alias = "encEventResponseMessage")]
    Event,
    /// A payment, or a request for one.
    #[serde(
        rename = "sendPaymentMessage",
        alias = "requestPaymentMessage",
        alias = "declinePaymentRequestMessage",
        alias = "cancelPaymentRequestMessage",
        alias = "paymentInviteMessage",
        alias = "invoiceMessage"
    )]
    Payment,
    /// What companies send: buttons, lists and templates to choose from.
    #[serde(
        rename = "interactiveMessage",
        alias = "buttonsMessage",
        alias = "listMessage",
        alias = "templateMessage",
        alias = "highlyStructuredMessage"
    )]
    Template,
    /// The cover of an album; its pictures follow as messages of their own.
    #[serde(rename = "albumMessage")]
    Album,
    /// Any other, including kinds that WhatsApp adds later.
    #[serde(other)]
    Other,
}

impl UnsupportedKind {
    /// The kind as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            UnsupportedKind::Poll => "poll",
            UnsupportedKind::Order => "order",
            UnsupportedKind::Product => "product",
            UnsupportedKind::Call => "call",
            UnsupportedKind::Pin => "pin",
            UnsupportedKind::GroupInvite => "group_invite",
            UnsupportedKind::Event => "event",
            UnsupportedKind::Payment => "payment",
            UnsupportedKind::Template => "template",
            UnsupportedKind::Album => "album",
            UnsupportedKind::Other => "other",
        }
    }
}
