//! reply's SQL: contacts, conversations, turns and messages.

use std::collections::HashMap;
use std::time::Duration;

use domain::{Address, Channel, CompanyId, ContactId, ConversationId, EventId, InboundMessage, MessageId, TurnId};
use jiff::Timestamp;
use platform::postgres::{Failure, Transaction, execute, query};
use tokio_postgres::Error;
use uuid::Uuid;

use super::Config;
use super::decide::CompanyStatus;

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

/// Who wrote: the contact that any of the aliases names, or a new one. Aliases that meet become one contact, the one
/// known by phone. Known aliases are locked in order; two first messages at once, each under another alias, make two
/// contacts until a message comes that carries both names.
pub(super) async fn contact(
    tx: &Transaction<'_>,
    company: CompanyId,
    message: &InboundMessage,
) -> Result<ContactId, Error> {
    let channel = message.channel.as_str();
    let aliases = known_names(message);
    let names: Vec<&str> = aliases.iter().map(Address::as_str).collect();
    let known = query(
        tx,
        "select a.contact_id, c.name
         from secretaria.contact_aliases a
         join secretaria.contacts c using (company_id, contact_id)
         where a.company_id = $1 and a.channel = $2 and a.alias = any($3)
         order by a.alias like 'lid:%', a.alias
         for update of a",
        &[&company.0, &channel, &names],
    )
    .await?;
    let Some(first) = known.first() else {
        return new_contact(tx, company, message, &names).await;
    };
    let contact: Uuid = first.get(0);
    if known.len() < names.len() || known.iter().any(|row| row.get::<_, Uuid>(0) != contact) {
        execute(
            tx,
            "insert into secretaria.contact_aliases as a (company_id, channel, alias, contact_id)
             select $1, $2, alias, $4 from unnest($3::text[]) as alias
             on conflict (company_id, channel, alias) do update
             set contact_id = excluded.contact_id
             where a.contact_id <> excluded.contact_id",
            &[&company.0, &channel, &names, &contact],
        )
        .await?;
    }
    if message.name.is_some() && message.name != first.get(1) {
        let sql = "update secretaria.contacts set name = $3 where company_id = $1 and contact_id = $2";
        execute(tx, sql, &[&company.0, &contact, &message.name]).await?;
    }
    Ok(ContactId(contact))
}

/// Whether a mobile's message was stored by a release before 0.2.0, which gave it another id because it took the mobile
/// for a landline. A landline's own message may have that id too, so it counts in the mobile's conversation only.
pub(super) async fn was_taken_before(
    tx: &Transaction<'_>,
    company: CompanyId,
    event: EventId,
    message: &InboundMessage,
) -> Result<bool, Error> {
    let (Some(former), Some(provider_id)) = (message.address.former_form(), &message.provider_id) else {
        return Ok(false);
    };
    let id = EventId::of_provider_message(company, message.channel, &former, message.author, provider_id);
    if id == event {
        return Ok(false);
    }
    let sql = "
        select
        from secretaria.messages m
        join secretaria.conversations c using (company_id, conversation_id)
        join secretaria.contact_aliases a using (company_id, contact_id)
        where m.company_id = $1
          and m.message_id = $2
          and a.channel = $3
          and a.alias = $4";
    let known = query(tx, sql, &[&company.0, &id.0, &message.channel.as_str(), &message.address.as_str()]).await?;
    Ok(!known.is_empty())
}

fn known_names(message: &InboundMessage) -> Vec<Address> {
    let mut names = message.aliases.clone();
    if !names.contains(&message.address) {
        names.insert(0, message.address.clone());
    }
    names.sort();
    names.dedup();
    names
}

async fn new_contact(
    tx: &Transaction<'_>,
    company: CompanyId,
    message: &InboundMessage,
    names: &[&str],
) -> Result<ContactId, Error> {
    let channel = message.channel;
    let contact = ContactId::first_seen_as(company, channel, &message.address);
    execute(
        tx,
        "with contact as (
           insert into secretaria.contacts (company_id, contact_id, channel, name)
           values ($1, $2, $3, $4)
           on conflict (company_id, contact_id) do update
           set name = coalesce(contacts.name, excluded.name)
         )
         insert into secretaria.contact_aliases (company_id, channel, alias, contact_id)
         select $1, $3, alias, $2 from unnest($5::text[]) as alias
         on conflict do nothing",
        &[&company.0, &contact.0, &channel.as_str(), &message.name, &names],
    )
    .await?;
    Ok(contact)
}

/// A place in a conversation for one more message; the conversation's row is locked until the commit.
pub(super) async fn place(
    tx: &Transaction<'_>,
    company: CompanyId,
    contact: ContactId,
    message: &InboundMessage,
    at: Timestamp,
) -> Result<(ConversationId, i64), Error> {
    let conversation = ConversationId::with(company, contact);
    let rows = query(
        tx,
        "insert into secretaria.conversations as c
           (company_id, conversation_id, contact_id, channel, send_to, last_position, last_message_at)
         values ($1, $2, $3, $4, $5, 1, $6)
         on conflict (company_id, conversation_id) do update
         set last_position = c.last_position + 1, send_to = excluded.send_to,
           last_message_at = greatest(c.last_message_at, excluded.last_message_at)
         returning last_position",
        &[&company.0, &conversation.0, &contact.0, &message.channel.as_str(), &message.reply_to, &at],
    )
    .await?;
    Ok((conversation, rows.first().map_or(1, |row| row.get(0))))
}

/// The turn a message joins: the one collecting, whose silence begins anew, or one that it opens.
pub(super) async fn turn(
    tx: &Transaction<'_>,
    company: CompanyId,
    conversation: ConversationId,
    message: MessageId,
    quiet: &Quiet,
    traceparent: Option<&str>,
) -> Result<TurnId, Error> {
    let rows = query(
        tx,
        "with extended as (
           update secretaria.turns
           set due_at = least(now() + make_interval(secs => $4), closes_at)
           where company_id = $1 and conversation_id = $2 and state = 'collecting'
           returning turn_id
         ), opened as (
           insert into secretaria.turns
             (company_id, turn_id, conversation_id, state, due_at, closes_at, traceparent)
           select $1, $3, $2, 'collecting', now() + make_interval(secs => $4), now() + make_interval(secs => $5), $6
           where not exists (select from extended)
           returning turn_id
         )
         select turn_id from extended
         union all
         select turn_id from opened",
        &[
            &company.0,
            &conversation.0,
            &TurnId::opened_by(company, message).0,
            &quiet.period_s,
            &quiet.cap_s,
            &traceparent,
        ],
    )
    .await?;
    Ok(rows.first().map_or(TurnId::opened_by(company, message), |row| TurnId(row.get(0))))
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

/// Stores a message.
pub(super) async fn store(tx: &Transaction<'_>, it: &Stored<'_>) -> Result<(), Error> {
    execute(
        tx,
        "insert into secretaria.messages
           (company_id, message_id, conversation_id, position, direction, turn_id, body, content, provider_id,
            occurred_at, received_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &[
            &it.company.0,
            &it.message.0,
            &it.conversation.0,
            &it.position,
            &it.direction,
            &it.turn.0,
            &it.body,
            &it.content,
            &it.provider_id,
            &it.occurred_at,
            &it.received_at,
        ],
    )
    .await?;
    Ok(())
}

/// Ends a turn if this claim of it still holds; says whether it did.
pub(super) async fn end_turn(
    tx: &Transaction<'_>,
    company: CompanyId,
    turn: TurnId,
    claim: i32,
    ending: (&str, Option<&str>, Option<MessageId>),
) -> Result<bool, Error> {
    let (outcome, reason, reply) = ending;
    let touched = execute(
        tx,
        "update secretaria.turns
         set state = 'ended', outcome = $4, reason = $5, reply_id = $6, ended_at = now(), lease_until = null
         where company_id = $1 and turn_id = $2 and claims = $3 and state = 'answering'",
        &[&company.0, &turn.0, &claim, &outcome, &reason, &reply.map(|it| it.0)],
    )
    .await?;
    Ok(touched == 1)
}

/// A place for our own message, and where it goes.
pub(super) async fn place_reply(
    tx: &Transaction<'_>,
    company: CompanyId,
    conversation: ConversationId,
    at: Timestamp,
) -> Result<Option<(i64, Channel, String)>, Error> {
    let rows = query(
        tx,
        "update secretaria.conversations
         set last_position = last_position + 1, last_message_at = greatest(last_message_at, $3)
         where company_id = $1 and conversation_id = $2
         returning last_position, channel, send_to",
        &[&company.0, &conversation.0, &at],
    )
    .await?;
    Ok(rows.first().and_then(|row| Some((row.get(0), Channel::named(row.get(1))?, row.get(2)))))
}

/// The ids of a turn's messages, in order.
pub(super) async fn messages_of(
    tx: &Transaction<'_>,
    company: CompanyId,
    turn: TurnId,
) -> Result<Vec<(MessageId, Timestamp)>, Failure> {
    let rows = query(
        tx,
        "select message_id, occurred_at
         from secretaria.messages
         where company_id = $1 and turn_id = $2 and direction = 'in'
         order by position",
        &[&company.0, &turn.0],
    )
    .await?;
    Ok(rows.iter().map(|row| (MessageId(row.get(0)), row.get(1))).collect())
}
