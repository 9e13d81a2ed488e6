//! reply's SQL for turns, a batch at a time: the turns that messages join or open, their ends, and their messages.
//!
//! Order of locks in one transaction: conversations, then turns, each in the order of company and id.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use domain::{CompanyId, ConversationId, MessageId, TurnId};
use jiff::Timestamp;
use platform::columns;
use platform::postgres::{Transaction, execute, ordinal, query};
use platform::queue::{self, Due, NewJob};
use tokio_postgres::Error;
use uuid::Uuid;

use super::context::Turn;
use super::decide::{CompanyStatus, TurnEnd};
use super::{Config, QUEUE};
use crate::conversations::PositionedMessage;

/// How long a turn waits for further messages of its contact.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuietPeriod {
    period_s: f64,
    cap_s: f64,
}

impl From<&Config> for QuietPeriod {
    fn from(config: &Config) -> Self {
        let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
        QuietPeriod { period_s: seconds(config.quiet_ms), cap_s: seconds(config.quiet_cap_ms) }
    }
}

/// The statuses of the companies of a batch; unknown companies are absent.
pub(super) async fn company_statuses(
    tx: &Transaction<'_>,
    companies: impl Iterator<Item = CompanyId>,
) -> Result<HashMap<CompanyId, CompanyStatus>, Error> {
    let ids: Vec<i64> = companies.map(|it| it.0).collect();
    let sql = "select company_id, status = 'active' from secretaria.companies where company_id = any($1)";
    let rows = query(tx, sql, &[&ids]).await?;
    let status = |active| if active { CompanyStatus::Active } else { CompanyStatus::Suspended };
    Ok(rows.iter().map(|row| (CompanyId(row.get(0)), status(row.get(1)))).collect())
}

/// The turns that messages join: collecting turns, whose quiet period starts again, or new turns, whose jobs are
/// returned too. The conversations are locked already; turns are locked in the order in which they are claimed.
pub(super) async fn turns(
    tx: &Transaction<'_>,
    messages: &[PositionedMessage<'_>],
    quiet: &QuietPeriod,
) -> Result<(Vec<TurnId>, Vec<NewJob>), Error> {
    let mut joined = collecting(tx, messages, quiet).await?;
    let (mut turns, mut opened, mut jobs) = (Vec::with_capacity(messages.len()), Vec::new(), Vec::new());
    for it in messages {
        let turn = *joined.entry((it.company, it.conversation)).or_insert_with(|| {
            let turn = TurnId::opened_by(it.company, it.id);
            opened.push((turn, it));
            jobs.push(NewJob {
                lane: Some(it.conversation.0),
                due: Due::After(Duration::from_secs_f64(quiet.period_s)),
                traceparent: it.traceparent.map(str::to_owned),
                ..NewJob::new(it.company, turn.0)
            });
            turn
        });
        turns.push(turn);
    }
    if !opened.is_empty() {
        execute(
            tx,
            "insert into secretaria.turns (company_id, turn_id, conversation_id, state, closes_at, traceparent)
             select company_id, turn_id, conversation_id, 'collecting', now() + make_interval(secs => $5), traceparent
             from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[])
               as it (company_id, turn_id, conversation_id, traceparent)",
            &columns![opened => |it| it.1.company.0, it.0.0, it.1.conversation.0, it.1.traceparent; &quiet.cap_s],
        )
        .await?;
    }
    Ok((turns, jobs))
}

async fn collecting(
    tx: &Transaction<'_>,
    messages: &[PositionedMessage<'_>],
    quiet: &QuietPeriod,
) -> Result<HashMap<(CompanyId, ConversationId), TurnId>, Error> {
    let conversations: BTreeSet<(i64, Uuid)> = messages.iter().map(|it| (it.company.0, it.conversation.0)).collect();
    let rows = query(
        tx,
        "select k.company_id, k.conversation_id, k.turn_id, least(now() + make_interval(secs => $3), t.closes_at)
         from (
           select it.company_id, it.conversation_id, c.turn_id
           from unnest($1::bigint[], $2::uuid[]) as it (company_id, conversation_id)
           cross join lateral (
             select t.turn_id
             from secretaria.turns t
             where t.company_id = it.company_id and t.conversation_id = it.conversation_id and t.state = 'collecting'
             offset 0
           ) c
           order by it.company_id, c.turn_id
         ) k
         cross join lateral (
           select t.closes_at
           from secretaria.turns t
           where t.company_id = k.company_id and t.turn_id = k.turn_id and t.state = 'collecting'
           offset 0
           for update of t
         ) t",
        &columns![conversations => |it| it.0, it.1; &quiet.period_s],
    )
    .await?;
    let mut collecting = HashMap::with_capacity(rows.len());
    for row in &rows {
        let (company, turn) = (CompanyId(row.get(0)), row.get(2));
        collecting.insert((company, ConversationId(row.get(1))), TurnId(turn));
        // A turn whose job is ready already is not postponed: it collects until a slot is free.
        if quiet.period_s > 0.0 {
            queue::postpone(tx, QUEUE, company, turn, row.get(3)).await?;
        }
    }
    Ok(collecting)
}

/// Ends turns with their outcomes and replies.
pub(super) async fn end_turns(tx: &Transaction<'_>, turns: &[(&Turn, &TurnEnd)]) -> Result<(), Error> {
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
            it.0.company.0, it.0.turn.0, it.1.outcome.as_str(), it.1.outcome.reason(),
            it.1.text.is_some().then(|| MessageId::reply_to(it.0.company, it.0.turn).0)],
    )
    .await?;
    Ok(())
}

/// A message that a turn answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnsweredMessage {
    pub(super) message: MessageId,
    pub(super) occurred_at: Timestamp,
    pub(super) received_at: Timestamp,
}

/// The messages of turns, in their order, turn by turn.
pub(super) async fn messages_of(
    tx: &Transaction<'_>,
    turns: &[(&Turn, &TurnEnd)],
) -> Result<Vec<Vec<AnsweredMessage>>, Error> {
    let rows = query(
        tx,
        "select it.ord, g.message_id, g.occurred_at, g.received_at
         from unnest($1::bigint[], $2::uuid[]) with ordinality as it (company_id, turn_id, ord)
         join secretaria.messages g using (company_id, turn_id)
         where g.direction = 'in'
         order by it.ord, g.position",
        &columns![turns => |(it, _)| it.company.0, it.turn.0],
    )
    .await?;
    let mut messages = vec![Vec::new(); turns.len()];
    for row in &rows {
        let found =
            AnsweredMessage { message: MessageId(row.get(1)), occurred_at: row.get(2), received_at: row.get(3) };
        if let Some(turn) = messages.get_mut(ordinal(row)) {
            turn.push(found);
        }
    }
    Ok(messages)
}
