//! reply's SQL for the ends of turns: their outcomes, the places of replies, and what they answered.

use domain::{Channel, MessageId};
use jiff::Timestamp;
use platform::columns;
use platform::postgres::{Row, Transaction, execute, in_order, place, query};
use tokio_postgres::Error;
use uuid::Uuid;

use super::context::Turn;
use super::decide::TurnEnd;

/// Ends turns with their outcomes and replies.
pub(super) async fn end_turns(
    tx: &Transaction<'_>,
    turns: &[(&Turn, &TurnEnd)],
    replies: &[Option<MessageId>],
) -> Result<(), Error> {
    let replies: Vec<Option<Uuid>> = replies.iter().map(|it| it.map(|it| it.0)).collect();
    execute(
        tx,
        "with held as materialized (
           select t.company_id, t.turn_id, it.outcome, it.reason, it.reply_id
           from unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::uuid[])
             as it (company_id, turn_id, outcome, reason, reply_id)
           join secretaria.turns t using (company_id, turn_id)
           where t.state <> 'ended'
           order by t.company_id, t.turn_id
           for update of t
         )
         update secretaria.turns t
         set state = 'ended', outcome = held.outcome, reason = held.reason, reply_id = held.reply_id, ended_at = now()
         from held
         where t.company_id = held.company_id and t.turn_id = held.turn_id",
        &columns![turns => |it|
            it.0.company.0, it.0.turn.0, it.1.outcome.as_str(), it.1.outcome.reason(); &replies],
    )
    .await?;
    Ok(())
}

/// A place for our own message, and where it goes.
#[derive(Debug, Clone)]
pub(super) struct ReplyPlace {
    pub(super) position: i64,
    pub(super) channel: Channel,
    pub(super) send_to: String,
}

/// Places for our own messages, in the order of their turns. Conversations are locked in the order of their ids.
pub(super) async fn place_replies(
    tx: &Transaction<'_>,
    turns: &[&Turn],
    at: Timestamp,
) -> Result<Vec<Option<ReplyPlace>>, Error> {
    if turns.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query(
        tx,
        "with held as materialized (
           select v.company_id, v.conversation_id, it.place
           from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, conversation_id, place)
           join secretaria.conversations v using (company_id, conversation_id)
           order by v.company_id, v.conversation_id
           for update of v
         )
         update secretaria.conversations v
         set last_position = v.last_position + 1, last_message_at = greatest(v.last_message_at, $3)
         from held
         where v.company_id = held.company_id and v.conversation_id = held.conversation_id
         returning held.place, v.last_position, v.channel, v.send_to",
        &columns![turns => |it| it.company.0, it.conversation.0; &at],
    )
    .await?;
    let found = |row: &Row| {
        let channel = Channel::named(row.get(2))?;
        Some(ReplyPlace { position: row.get(1), channel, send_to: row.get(3) })
    };
    Ok(in_order(turns.len(), &rows, found).into_iter().map(Option::flatten).collect())
}

/// A message that a turn answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) message: MessageId,
    pub(super) occurred_at: Timestamp,
    pub(super) received_at: Timestamp,
}

/// The messages of turns, in their order, turn by turn.
pub(super) async fn messages_of(
    tx: &Transaction<'_>,
    turns: &[(&Turn, &TurnEnd)],
) -> Result<Vec<Vec<Answered>>, Error> {
    let rows = query(
        tx,
        "select it.place, g.message_id, g.occurred_at, g.received_at
         from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, turn_id, place)
         join secretaria.messages g using (company_id, turn_id)
         where g.direction = 'in'
         order by it.place, g.position",
        &columns![turns => |(it, _)| it.company.0, it.turn.0],
    )
    .await?;
    let mut messages = vec![Vec::new(); turns.len()];
    for row in &rows {
        let found = Answered { message: MessageId(row.get(1)), occurred_at: row.get(2), received_at: row.get(3) };
        if let Some(turn) = messages.get_mut(place(row)) {
            turn.push(found);
        }
    }
    Ok(messages)
}
