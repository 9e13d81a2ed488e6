//! conversations' SQL for messages, a batch at a time: the positions of inbound messages, and the rows of both sides.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{CompanyId, ContactId, ConversationId, Envelope, EventId, InboundMessage, MessageId, TurnId, header};
use jiff::Timestamp;
use metrics::counter;
use platform::consumer::Event;
use platform::postgres::{Row, Transaction, execute, query};
use platform::{columns, metric};
use serde_json::Value;
use tokio_postgres::Error;

use super::contacts;

/// An inbound message with its position in its conversation, whose row is locked until the commit.
pub(crate) struct PositionedMessage<'a> {
    pub(crate) company: CompanyId,
    pub(crate) conversation: ConversationId,
    pub(crate) id: MessageId,
    pub(crate) traceparent: Option<&'a str>,
    event: &'a Envelope<InboundMessage>,
    message: Cow<'a, InboundMessage>,
    contact: ContactId,
    position: i64,
}

/// Finds or inserts the contacts and conversations of messages, and gives the messages their positions, in their order;
/// `None` for one that was stored before. The caller then finds their turns and stores them with [`store`].
pub(crate) async fn receive<'a>(
    tx: &Transaction<'_>,
    events: &[&'a Event<'_, InboundMessage>],
) -> Result<Vec<Option<PositionedMessage<'a>>>, Error> {
    let messages: Vec<(CompanyId, Cow<'a, InboundMessage>)> =
        events.iter().map(|it| (it.envelope.company_id, it.envelope.payload.in_present_form())).collect();
    let contacts = contacts::find(tx, &messages).await?;
    let positioned =
        events.iter().zip(messages).zip(contacts).map(|((it, (company, message)), contact)| PositionedMessage {
            company,
            conversation: ConversationId::with(company, contact),
            id: MessageId::from(it.envelope.event_id),
            traceparent: it.record.header_text(header::TRACEPARENT),
            event: &it.envelope,
            message,
            contact,
            position: 0,
        });
    let positioned: Vec<PositionedMessage<'a>> = positioned.collect();
    let repeated = stored_before(tx, &positioned).await?;
    let mut positioned: Vec<Option<PositionedMessage<'a>>> =
        positioned.into_iter().map(|it| (!repeated.contains(&it.id)).then_some(it)).collect();
    assign_positions(tx, &mut positioned).await?;
    Ok(positioned)
}

/// Which of these messages of mobiles were stored by a release before 0.2.0, which gave them other ids because it
/// treated a mobile as a landline. A landline's own message may have that id too, so only the mobile's conversation is
/// searched.
async fn stored_before(tx: &Transaction<'_>, messages: &[PositionedMessage<'_>]) -> Result<HashSet<MessageId>, Error> {
    let former = |it: &PositionedMessage<'_>| {
        let (message, channel) = (&it.message, it.message.channel);
        let (former, provider_id) = message.address.former_form().zip(message.provider_id.as_ref())?;
        let id = EventId::of_provider_message(it.company, channel, &former, message.author, provider_id);
        (id.0 != it.id.0).then(|| (it.company.0, it.id.0, id.0, channel.as_str(), message.address.as_str().to_owned()))
    };
    let asked: Vec<_> = messages.iter().filter_map(former).collect();
    if asked.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = "
        select it.event_id
        from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[])
          as it (company_id, event_id, former_id, channel, alias)
        join secretaria.messages m on m.company_id = it.company_id and m.message_id = it.former_id
        join secretaria.conversations c on c.company_id = m.company_id and c.conversation_id = m.conversation_id
        join secretaria.contact_aliases a
          on a.company_id = c.company_id and a.contact_id = c.contact_id and a.channel = it.channel and a.alias = it.alias";
    let known = query(tx, sql, &columns![asked => |it| it.0, it.1, it.2, it.3, it.4.as_str()]).await?;
    Ok(known.iter().map(|row| MessageId(row.get(0))).collect())
}

/// Gives messages their positions, each in its conversation, in their order. The conversations' rows are locked until
/// the commit, in the same order as where our own messages are stored.
async fn assign_positions(tx: &Transaction<'_>, messages: &mut [Option<PositionedMessage<'_>>]) -> Result<(), Error> {
    let mut last: BTreeMap<(CompanyId, ConversationId), (i64, &PositionedMessage<'_>, Timestamp)> = BTreeMap::new();
    for it in messages.iter().flatten() {
        let entry = last.entry((it.company, it.conversation)).or_insert((0, it, it.event.occurred_at));
        *entry = (entry.0 + 1, it, entry.2.max(it.event.occurred_at));
    }
    if last.is_empty() {
        return Ok(());
    }
    let rows = query(
        tx,
        "insert into secretaria.conversations as c
           (company_id, conversation_id, contact_id, channel, send_to, last_position, last_message_at)
         select *
         from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::timestamptz[])
           as it (company_id, conversation_id, contact_id, channel, send_to, messages, newest_at)
         order by it.company_id, it.conversation_id
         on conflict (company_id, conversation_id) do update
         set last_position = c.last_position + excluded.last_position, send_to = excluded.send_to,
           last_message_at = greatest(c.last_message_at, excluded.last_message_at)
         returning company_id, conversation_id, last_position",
        &columns![last => |it|
            it.0.0.0, it.0.1.0, it.1.1.contact.0, it.1.1.message.channel.as_str(), it.1.1.message.reply_to.as_str(),
            it.1.0, it.1.2],
    )
    .await?;
    let before = |row: &Row| {
        let conversation = (CompanyId(row.get(0)), ConversationId(row.get(1)));
        (conversation, row.get::<_, i64>(2) - last.get(&conversation).map_or(0, |it| it.0))
    };
    let mut positions: HashMap<_, i64> = rows.iter().map(before).collect();
    for it in messages.iter_mut().flatten() {
        let position = positions.entry((it.company, it.conversation)).or_default();
        *position += 1;
        it.position = *position;
    }
    Ok(())
}

/// Stores messages at their positions, each in the turn that it joined.
pub(crate) async fn store(
    tx: &Transaction<'_>,
    messages: &[PositionedMessage<'_>],
    turns: &[TurnId],
) -> Result<(), Error> {
    let stored = messages.iter().zip(turns).map(|(it, turn)| StoredMessage {
        company: it.company,
        message: it.id,
        conversation: it.conversation,
        position: it.position,
        direction: "in",
        turn: *turn,
        body: it.message.content.as_text().into(),
        content: serde_json::to_value(&it.message.content).ok(),
        provider_id: it.message.provider_id.as_deref(),
        occurred_at: it.event.occurred_at,
        received_at: it.event.received_at,
    });
    insert(tx, &stored.collect::<Vec<_>>()).await?;
    for it in messages {
        let company = metric::company_label(it.company);
        counter!(metric::MESSAGES_PROCESSED, "company" => company, "kind" => "in").increment(1);
    }
    Ok(())
}

/// A row of `messages`, of either side.
pub(super) struct StoredMessage<'a> {
    pub(super) company: CompanyId,
    pub(super) message: MessageId,
    pub(super) conversation: ConversationId,
    pub(super) position: i64,
    pub(super) direction: &'static str,
    pub(super) turn: TurnId,
    pub(super) body: Cow<'a, str>,
    pub(super) content: Option<Value>,
    pub(super) provider_id: Option<&'a str>,
    pub(super) occurred_at: Timestamp,
    pub(super) received_at: Timestamp,
}

pub(super) async fn insert(tx: &Transaction<'_>, messages: &[StoredMessage<'_>]) -> Result<(), Error> {
    execute(
        tx,
        "insert into secretaria.messages
           (company_id, message_id, conversation_id, position, direction, turn_id, body, content, provider_id,
            occurred_at, received_at)
         select * from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::uuid[], $7::text[],
                              $8::jsonb[], $9::text[], $10::timestamptz[], $11::timestamptz[])",
        &columns![messages => |it|
            it.company.0, it.message.0, it.conversation.0, it.position, it.direction, it.turn.0,
            it.body.as_ref(), it.content.as_ref(), it.provider_id, it.occurred_at, it.received_at],
    )
    .await?;
    Ok(())
}
