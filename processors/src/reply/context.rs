//! reply's SQL for answering: what a turn's prompt needs.

use domain::{CompanyId, ConversationId, TurnId};
use platform::columns;
use platform::postgres::{Row, Transaction, in_order, ordinal, query};
use platform::queue::Claimed;
use tokio_postgres::Error;
use uuid::Uuid;

use super::allowance::Allowance;

/// A turn to be answered.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) company: CompanyId,
    pub(super) turn: TurnId,
    pub(super) conversation: ConversationId,
    /// The number of this claim of the turn, from 1.
    pub(super) claim: i32,
    pub(super) traceparent: Option<String>,
    pub(super) company_name: String,
    pub(super) assistant_prompt: String,
    pub(super) fallback_text: Option<String>,
    pub(super) time_zone: String,
    pub(super) active: bool,
    pub(super) spread: u16,
    pub(super) epoch: i32,
    pub(super) contact: Uuid,
    pub(super) contact_name: Option<String>,
    /// Messages of the conversation, oldest first, this turn's at the end: whether it is ours, and the text.
    pub(super) history: Vec<(bool, String)>,
    /// Whether the model may be called.
    pub(super) allowance: Allowance,
}

/// Messages of one turn that are read; of a longer turn the oldest ones are left out.
const TURN_MESSAGES: i64 = 50;

/// The turns of claimed jobs, in their order; `None` for one that has ended. Their history is still empty.
pub(super) async fn load(tx: &Transaction<'_>, claimed: &[Claimed]) -> Result<Vec<Option<Turn>>, Error> {
    let rows = query(
        tx,
        "select it.ord, t.company_id, t.turn_id, t.conversation_id, t.claims + 1, t.traceparent, c.name,
           c.assistant_prompt, c.fallback_text, c.time_zone, c.status = 'active', c.placement_spread, c.placement_epoch,
           p.contact_id, p.name
         from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, turn_id, ord)
         join secretaria.turns t using (company_id, turn_id)
         join secretaria.conversations v using (company_id, conversation_id)
         join secretaria.companies c using (company_id)
         join secretaria.contacts p using (company_id, contact_id)
         where t.state <> 'ended'",
        &columns![claimed => |it| it.company().0, it.lease.key],
    )
    .await?;
    Ok(in_order(claimed.len(), &rows, read))
}

fn read(row: &Row) -> Turn {
    Turn {
        company: CompanyId(row.get(1)),
        turn: TurnId(row.get(2)),
        conversation: ConversationId(row.get(3)),
        claim: row.get(4),
        traceparent: row.get(5),
        company_name: row.get(6),
        assistant_prompt: row.get(7),
        fallback_text: row.get(8),
        time_zone: row.get(9),
        active: row.get(10),
        spread: u16::try_from(row.get::<_, i16>(11)).unwrap_or(domain::placement::DEFAULT_SPREAD),
        epoch: row.get(12),
        contact: row.get(13),
        contact_name: row.get(14),
        history: Vec::new(),
        allowance: Allowance::Granted,
    }
}

/// Closes turns: a message that arrives later opens another one.
pub(super) async fn close(tx: &Transaction<'_>, turns: &[&mut Turn]) -> Result<(), Error> {
    query(
        tx,
        "with held as materialized (
           select t.company_id, t.turn_id
           from unnest($1::bigint[], $2::uuid[]) as it (company_id, turn_id)
           join secretaria.turns t using (company_id, turn_id)
           order by t.company_id, t.turn_id
           for update of t
         )
         update secretaria.turns t
         set state = 'answering', claims = t.claims + 1
         from held
         where t.company_id = held.company_id and t.turn_id = held.turn_id",
        &columns![turns => |it| it.company.0, it.turn.0],
    )
    .await?;
    Ok(())
}

/// Reads the messages of closed turns, and at most `max` messages of each conversation before them.
pub(super) async fn load_history(tx: &Transaction<'_>, turns: &mut [&mut Turn], max: u16) -> Result<(), Error> {
    // Turns of a conversation are answered one after the other, so every message of an ended turn comes before this
    // one, whatever the order of arrival: a question that arrived while the one before was being answered follows that
    // answer.
    let before = query(
        tx,
        "select it.ord, m.is_ours, m.body
         from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, conversation_id, ord)
         cross join lateral (
           select array(
             select t.turn_id
             from secretaria.turns t
             where t.company_id = it.company_id and t.conversation_id = it.conversation_id and t.state = 'collecting'
             union all
             select t.turn_id
             from secretaria.turns t
             where t.company_id = it.company_id and t.conversation_id = it.conversation_id and t.state = 'answering'
           ) as turns
           offset 0
         ) open
         cross join lateral (
           select g.direction = 'out' as is_ours, g.body, g.position
           from secretaria.messages g
           where g.company_id = it.company_id and g.conversation_id = it.conversation_id
             and g.turn_id <> all (open.turns)
           order by g.position desc
           limit $3
         ) m
         order by it.ord, m.position",
        &columns![turns => |it| it.company.0, it.conversation.0; &i64::from(max)],
    )
    .await?;
    let own = query(
        tx,
        "select it.ord, false, m.body
         from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, turn_id, ord)
         cross join lateral (
           select g.body, g.position
           from secretaria.messages g
           where g.company_id = it.company_id and g.turn_id = it.turn_id and g.direction = 'in'
           order by g.position desc
           limit $3
         ) m
         order by it.ord, m.position",
        &columns![turns => |it| it.company.0, it.turn.0; &TURN_MESSAGES],
    )
    .await?;
    for row in before.iter().chain(&own) {
        if let Some(turn) = turns.get_mut(ordinal(row)) {
            turn.history.push((row.get(1), row.get(2)));
        }
    }
    Ok(())
}
