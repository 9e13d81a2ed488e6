//! Outbound messages: each is stored at the end of its conversation, and its record for `outbound.messages` is made.

use domain::{
    Channel, CompanyId, ConversationId, Envelope, EventId, Kind, MessageId, OutboundMessage, Purpose, SCHEMA, Topic,
    TurnId,
};
use jiff::Timestamp;
use platform::columns;
use platform::outbox::Entry;
use platform::postgres::{self, Failure, Row, Transaction, in_order, query};

use super::messages::{StoredMessage, insert};

/// A message to send.
pub(crate) struct NewMessage<'a> {
    pub(crate) company: CompanyId,
    pub(crate) conversation: ConversationId,
    pub(crate) id: MessageId,
    /// The turn that it answers.
    pub(crate) turn: TurnId,
    pub(crate) text: &'a str,
    pub(crate) purpose: Purpose,
    pub(crate) traceparent: Option<&'a str>,
    /// Spread and epoch of its company's placement.
    pub(crate) placement: (u16, i32),
}

/// Stores messages, each at the end of its conversation, and returns their records for the outbox, in their order;
/// `None` where there is no such conversation. At most one message of each conversation per call: of two, one would be
/// left out. Conversations are locked in the order of their ids.
pub(crate) async fn send(
    tx: &Transaction<'_>,
    messages: &[NewMessage<'_>],
    at: Timestamp,
) -> Result<Vec<Option<Entry>>, Failure> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query(
        tx,
        "with held as materialized (
           select v.company_id, v.conversation_id, it.ord
           from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, conversation_id, ord)
           join secretaria.conversations v using (company_id, conversation_id)
           order by v.company_id, v.conversation_id
           for update of v
         )
         update secretaria.conversations v
         set last_position = v.last_position + 1, last_message_at = greatest(v.last_message_at, $3)
         from held
         where v.company_id = held.company_id and v.conversation_id = held.conversation_id
         returning held.ord, v.last_position, v.channel, v.send_to",
        &columns![messages => |it| it.company.0, it.conversation.0; &at],
    )
    .await?;
    let prepared = |row: &Row| {
        let message = messages.get(postgres::ordinal(row))?;
        Some(OutboundMessage {
            message_id: message.id,
            conversation_id: message.conversation,
            position: row.get(1),
            channel: Channel::named(row.get(2))?,
            to: row.get(3),
            body: message.text.to_owned(),
            purpose: message.purpose,
        })
    };
    let prepared: Vec<Option<OutboundMessage>> =
        in_order(messages.len(), &rows, prepared).into_iter().map(Option::flatten).collect();
    let stored = messages.iter().zip(&prepared).filter_map(|(it, prepared)| {
        Some(StoredMessage {
            company: it.company,
            message: it.id,
            conversation: it.conversation,
            position: prepared.as_ref()?.position,
            direction: "out",
            turn: it.turn,
            body: it.text.into(),
            content: None,
            provider_id: None,
            occurred_at: at,
            received_at: at,
        })
    });
    insert(tx, &stored.collect::<Vec<_>>()).await?;
    messages
        .iter()
        .zip(prepared)
        .map(|(it, prepared)| prepared.map(|prepared| entry(it, prepared, at)).transpose())
        .collect()
}

fn entry(message: &NewMessage<'_>, payload: OutboundMessage, at: Timestamp) -> Result<Entry, Failure> {
    let (event_id, company_id, kind) = (EventId::from(message.id), message.company, Kind::OutboundMessage);
    let envelope = Envelope { schema: SCHEMA, event_id, company_id, kind, occurred_at: at, received_at: at, payload };
    let subject = message.conversation.to_string();
    Entry::of_event(Topic::OutboundMessages, &subject, message.placement, &envelope, message.traceparent)
}
