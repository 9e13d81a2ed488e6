//! The business types: companies, addresses, messages, usage, topics, and the pure rules over them.
//!
//! Knows nothing of tokio, SQL, Kafka or HTTP, so every other crate can use it.
//!
//! In reading order:
//! - [`CompanyId`] — the tenant; everything belongs to exactly one.
//! - [`Address`] — who writes to a company, in the one form that is compared and hashed.
//! - [`EventId`] — an id derived from what an event *is*, so that a repeat lands on the same row.
//! - [`InboundMessage`], [`OutboundMessage`], [`UsageEvent`], [`Alert`] — the facts that are published.
//! - [`Envelope`] — how a fact is written on a topic; [`Topic`] — where; [`placement`] — on which partition.
//! - [`EventOutcome`] — how the handling of one event ended.
//! - [`sketch`] — percentiles and numbers of contacts that add up over days, as rollups store them.

mod activity;
mod company;
mod address;
mod identity;
mod message;
mod outbound;
mod usage;
mod alert;
mod envelope;
mod topic;
pub mod placement;
pub mod sketch;
mod event_outcome;

pub use activity::{Activity, DeliveryEnded, TurnEnded};
pub use address::{Address, Alias, Channel};
pub use alert::{Alert, SubscriptionChange, Threshold};
pub use company::CompanyId;
pub use envelope::{Envelope, Kind, SCHEMA, Unreadable, header};
pub use event_outcome::{EventOutcome, IgnoreReason, ProcessorName};
pub use identity::{Author, ContactId, ConversationId, EventId, MessageId, TurnId};
pub use message::{Content, InboundMessage, MediaKind};
pub use outbound::{OutboundMessage, Purpose};
pub use topic::{KeyScheme, Topic};
pub use usage::{Fact, UsageEvent};
