//! reply's SQL for what comes in: conversations, turns and messages, a whole batch at a time.
//!
//! Order of locks in one transaction: conversations, then turns, each in the order of company and id.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use domain::{CompanyId, ContactId, ConversationId, EventId, InboundMessage, MessageId, TurnId};
use jiff::Timestamp;
use platform::columns;
use platform::postgres::{Transaction, execute, query};
use platform::queue::{self, Due, NewJob};
use tokio_postgres::Error;
use uuid::Uuid;

use super::decide::CompanyStatus;
use super::{Config, QUEUE};

/// How long a turn waits for its contact to fall silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quiet {
    period_s: f64,
    cap_s: f64,
}

impl From<&Config> for Quiet {
    fn from(config: &Config) -> Self {
        let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
        Quiet { period_s: seconds(config.quiet_ms), cap_s: seconds(config.quiet_cap_ms) }
    }
}

/// How the companies of a batch stand.
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

/// Which of these messages of mobiles were stored by a release before 0.2.0, which gave them other ids because it took a
/// mobile for a landline. A landline's own message may have that id too, so it counts in the mobile's conversation only.
pub(super) async fn taken_before(
    tx: &Transaction<'_>,
    messages: &[(CompanyId, EventId, &InboundMessage)],
) -> Result<HashSet<EventId>, Error> {
    let former = |&(company, event, message): &(CompanyId, EventId, &InboundMessage)| {
        let (former, provider_id) = message.address.former_form().zip(message.provider_id.as_ref())?;
        let id = EventId::of_provider_message(company, message.channel, &former, message.author, provider_id);
        (id != event).then(|| (company.0, event.0, id.0, message.channel.as_str(), message.address.as_str().to_owned()))
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
    Ok(known.iter().map(|row| EventId(row.get(0))).collect())
}

/// A message with the conversation that it belongs to.
pub(super) struct Placing<'a> {
    pub(super) company: CompanyId,
    pub(super) contact: ContactId,
    pub(super) conversation: ConversationId,
    pub(super) message: &'a InboundMessage,
    pub(super) id: MessageId,
    pub(super) occurred_at: Timestamp,
    pub(super) received_at: Timestamp,
    pub(super) traceparent: Option<&'a str>,
}

/// Places for messages, each in its conversation, in their order. The conversations' rows are locked until the commit, in
/// the order in which answers are placed.
pub(super) async fn place(tx: &Transaction<'_>, messages: &[Placing<'_>]) -> Result<Vec<i64>, Error> {
    let mut last: BTreeMap<(CompanyId, ConversationId), (i64, &Placing<'_>, Timestamp)> = BTreeMap::new();
    for it in messages {
        let entry = last.entry((it.company, it.conversation)).or_insert((0, it, it.occurred_at));
        *entry = (entry.0 + 1, it, entry.2.max(it.occurred_at));
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
    let mut next: HashMap<(i64, Uuid), i64> = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    for (key, it) in &last {
        if let Some(position) = next.get_mut(&(key.0.0, key.1.0)) {
            *position -= it.0;
        }
    }
    let mut position = |it: &Placing<'_>| {
        let last = next.entry((it.company.0, it.conversation.0)).or_default();
        *last += 1;
        *last
    };
    Ok(messages.iter().map(&mut position).collect())
}

/// The turns that messages join: those collecting, whose quiet period starts again, or those that they open, with their jobs.
/// The conversations are locked already; turns are locked in the order in which they are claimed.
pub(super) async fn turns(
    tx: &Transaction<'_>,
    messages: &[Placing<'_>],
    quiet: &Quiet,
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
        open(tx, &opened, quiet).await?;
    }
    Ok((turns, jobs))
}

async fn collecting(
    tx: &Transaction<'_>,
    messages: &[Placing<'_>],
    quiet: &Quiet,
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
        // One that is ready already is answered as soon as a slot is free: it collects until then.
        if quiet.period_s > 0.0 {
            queue::postpone(tx, QUEUE, company, turn, row.get(3)).await?;
        }
    }
    Ok(collecting)
}

async fn open(tx: &Transaction<'_>, opened: &[(TurnId, &Placing<'_>)], quiet: &Quiet) -> Result<(), Error> {
    execute(
        tx,
        "insert into secretaria.turns (company_id, turn_id, conversation_id, state, closes_at, traceparent)
         select company_id, turn_id, conversation_id, 'collecting', now() + make_interval(secs => $5), traceparent
         from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[])
           as it (company_id, turn_id, conversation_id, traceparent)",
        &columns![opened => |it| it.1.company.0, it.0.0, it.1.conversation.0, it.1.traceparent; &quiet.cap_s],
    )
    .await?;
    Ok(())
}

/// A message to store.
pub(super) struct Stored<'a> {
    pub(super) company: CompanyId,
    pub(super) message: MessageId,
    pub(super) conversation: ConversationId,
    pub(super) position: i64,
    pub(super) direction: &'static str,
    pub(super) turn: TurnId,
    pub(super) body: &'a str,
    pub(super) content: Option<serde_json::Value>,
    pub(super) provider_id: Option<&'a str>,
    pub(super) occurred_at: Timestamp,
    pub(super) received_at: Timestamp,
}

/// Stores messages.
pub(super) async fn store(tx: &Transaction<'_>, messages: &[Stored<'_>]) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    execute(
        tx,
        "insert into secretaria.messages
           (company_id, message_id, conversation_id, position, direction, turn_id, body, content, provider_id,
            occurred_at, received_at)
         select * from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::uuid[], $7::text[],
                              $8::jsonb[], $9::text[], $10::timestamptz[], $11::timestamptz[])",
        &columns![messages => |it|
            it.company.0, it.message.0, it.conversation.0, it.position, it.direction, it.turn.0, it.body,
            it.content.as_ref(), it.provider_id, it.occurred_at, it.received_at],
    )
    .await?;
    Ok(())
}
