//! Divides contacts in which releases before 0.2.0 joined two people: a landline, and the mobile with a 9 before that
//! number.
//!
//! reads    `contact_aliases`, `conversations`, `messages`, `deliveries`: the number that an answer was sent to shows
//!          who wrote
//! writes   `contacts`, `contact_aliases`, `conversations`, `turns`, `messages`
//! repeats  safe: what is divided is no longer found; each contact is a transaction of its own
//!
//! The person who was answered last keeps the contact and the conversation, with the turns that show neither number.
//! The other gets a new contact, with the turns whose answers were sent to the other number.

use std::collections::HashSet;

use domain::{Address, Channel, CompanyId, ContactId, ConversationId};
use platform::postgres::{Db, Failure, Transaction, execute, query};
use uuid::Uuid;

/// A contact whose address two people may share, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub company: CompanyId,
    pub contact: Uuid,
    pub outcome: DivisionOutcome,
}

/// What was done about a contact that two people may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DivisionOutcome {
    /// Only the mobile wrote; the contact now has the mobile's address.
    Mobile,
    /// Both wrote; the other one has a new contact now.
    Divided {
        /// The new contact.
        other: Uuid,
        /// Turns that were moved to it.
        turns: u64,
        /// Turns without an answer that shows who wrote; they stay with the old contact.
        unproven: i64,
    },
    /// Nothing shows which of the two wrote; it is unchanged.
    Unproven,
}

/// Divides the contacts of every company where the messages show who wrote. Returns what was done, and the contacts
/// that an operator should check.
///
/// # Errors
/// If Postgres is unavailable or refuses; contacts that were divided before stay divided.
pub async fn run(db: &Db) -> Result<Vec<Finding>, Failure> {
    let mut client = db.get().await?;
    let sql = "
        select distinct a.company_id, a.alias
        from secretaria.contact_aliases a
        join secretaria.conversations c using (company_id, contact_id)
        where a.channel = $1
          and a.alias ~ '^55[0-9]{2}[0-5][0-9]{7}$'
        order by a.company_id, a.alias";
    // It reads every alias, which may take longer than the usual limit of a statement.
    client.batch_execute("set statement_timeout = 0").await?;
    let candidates = query(&client, sql, &[&Channel::Whaticket.as_str()]).await?;
    let mut findings = Vec::new();
    for row in candidates {
        let (company, landline) = (CompanyId(row.get(0)), Address::trusted(row.get::<_, String>(1)));
        let tx = client.transaction().await?;
        findings.extend(divide(&tx, company, &landline).await?);
        tx.commit().await?;
    }
    Ok(findings)
}

async fn divide(tx: &Transaction<'_>, company: CompanyId, landline: &Address) -> Result<Option<Finding>, Failure> {
    let Some(mobile) = landline.confused_mobile() else { return Ok(None) };
    let Some(history) = ContactHistory::of(tx, company, landline, &mobile).await? else { return Ok(None) };
    let finding = |outcome| Ok(Some(Finding { company, contact: history.contact, outcome }));
    let last = Address::trusted(&history.send_to);
    let (wrote_landline, wrote_mobile) = (history.answered.contains(landline), history.answered.contains(&mobile));
    let (keeper, other) = match (wrote_landline, wrote_mobile) {
        (true, false) => return Ok(None),
        (false, false) => return finding(DivisionOutcome::Unproven),
        // The mobile's address belongs to another contact already: nothing shows whose history this is.
        (_, true) if history.mobile_is_known => return finding(DivisionOutcome::Unproven),
        (false, true) => (&mobile, landline),
        (true, true) if last == mobile => (&mobile, landline),
        (true, true) if last == *landline => (landline, &mobile),
        (true, true) => return finding(DivisionOutcome::Unproven),
    };
    let new = ContactId::divided_from(company, ContactId(history.contact), other);
    give_aliases(tx, company, (ContactId(history.contact), keeper), (new, other)).await?;
    if !wrote_landline {
        return finding(DivisionOutcome::Mobile);
    }
    let turns = move_turns(tx, company, &history, new, other).await?;
    let unproven = unanswered_turns(tx, company, history.conversation).await?;
    finding(DivisionOutcome::Divided { other: new.0, turns, unproven })
}

/// A contact whose address two people may share, and the addresses that its answers were sent to.
struct ContactHistory {
    contact: Uuid,
    conversation: Uuid,
    send_to: String,
    answered: HashSet<Address>,
    mobile_is_known: bool,
}

impl ContactHistory {
    /// `None` where no message was stored yet. Locks the alias, then the conversation, as `conversations::receive`
    /// does.
    async fn of(
        tx: &Transaction<'_>,
        company: CompanyId,
        landline: &Address,
        mobile: &Address,
    ) -> Result<Option<Self>, Failure> {
        let channel = Channel::Whaticket.as_str();
        let aliases = "
            select a.alias, a.contact_id
            from secretaria.contact_aliases a
            where a.company_id = $1
              and a.channel = $2
              and a.alias = any($3)
            order by a.alias
            for update";
        let both = [landline.as_str(), mobile.as_str()];
        let aliases = query(tx, aliases, &[&company.0, &channel, &both.as_slice()]).await?;
        let known = |it: &Address| aliases.iter().find(|row| row.get::<_, &str>(0) == it.as_str());
        let Some(contact) = known(landline).map(|row| row.get::<_, Uuid>(1)) else { return Ok(None) };
        let conversation = "
            select c.conversation_id, c.send_to
            from secretaria.conversations c
            where c.company_id = $1
              and c.conversation_id = $2
            for update";
        let id = ConversationId::with(company, ContactId(contact));
        let rows = query(tx, conversation, &[&company.0, &id.0]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (conversation, send_to): (Uuid, String) = (row.get(0), row.get(1));
        let sent = "
            select distinct d.send_to
            from secretaria.messages m
            join secretaria.deliveries d
              on d.company_id = m.company_id
              and d.delivery_id = m.message_id
            where m.company_id = $1
              and m.conversation_id = $2
              and m.direction = 'out'";
        let sent = query(tx, sent, &[&company.0, &conversation]).await?;
        let mut answered: HashSet<Address> = sent.iter().map(|row| Address::trusted(row.get::<_, String>(0))).collect();
        answered.insert(Address::trusted(&send_to));
        Ok(Some(ContactHistory { contact, conversation, send_to, answered, mobile_is_known: known(mobile).is_some() }))
    }
}

/// Gives each of the two contacts its own address.
async fn give_aliases(
    tx: &Transaction<'_>,
    company: CompanyId,
    (old, keeper): (ContactId, &Address),
    (new, other): (ContactId, &Address),
) -> Result<(), Failure> {
    let channel = Channel::Whaticket.as_str();
    let contact = "
        insert into secretaria.contacts (company_id, contact_id, channel)
        values ($1, $2, $3)
        on conflict do nothing";
    execute(tx, contact, &[&company.0, &new.0, &channel]).await?;
    let alias = "
        insert into secretaria.contact_aliases (company_id, channel, alias, contact_id)
        values ($1, $2, $3, $4)
        on conflict (company_id, channel, alias) do update
        set contact_id = excluded.contact_id";
    for (address, contact) in [(keeper, old), (other, new)] {
        execute(tx, alias, &[&company.0, &channel, &address.as_str(), &contact.0]).await?;
    }
    Ok(())
}

/// Moves the turns whose answers were sent to `other` to a new conversation; positions stay as they are. Returns how
/// many.
async fn move_turns(
    tx: &Transaction<'_>,
    company: CompanyId,
    history: &ContactHistory,
    new: ContactId,
    other: &Address,
) -> Result<u64, Failure> {
    let turns = "
        select distinct m.turn_id
        from secretaria.messages m
        join secretaria.deliveries d
          on d.company_id = m.company_id
          and d.delivery_id = m.message_id
        where m.company_id = $1
          and m.conversation_id = $2
          and m.direction = 'out'
          and d.send_to = $3";
    let turns = query(tx, turns, &[&company.0, &history.conversation, &other.as_str()]).await?;
    let turns: Vec<Uuid> = turns.iter().map(|row| row.get(0)).collect();
    let conversation = ConversationId::with(company, new);
    let make = "
        insert into secretaria.conversations
          (company_id, conversation_id, contact_id, channel, send_to, last_position, last_message_at)
        select $1, $2, $3, $4, $5, max(m.position), max(m.occurred_at)
        from secretaria.messages m
        where m.company_id = $1
          and m.turn_id = any($6)";
    let channel = Channel::Whaticket.as_str();
    execute(tx, make, &[&company.0, &conversation.0, &new.0, &channel, &other.as_str(), &turns]).await?;
    let changes = [
        "update secretaria.turns set conversation_id = $2 where company_id = $1 and turn_id = any($3)",
        "update secretaria.messages set conversation_id = $2 where company_id = $1 and turn_id = any($3)",
    ];
    for change in changes {
        execute(tx, change, &[&company.0, &conversation.0, &turns]).await?;
    }
    Ok(turns.len() as u64)
}

/// How many turns of a conversation have no answer that was sent.
async fn unanswered_turns(tx: &Transaction<'_>, company: CompanyId, conversation: Uuid) -> Result<i64, Failure> {
    let sql = "
        select count(distinct m.turn_id)
        from secretaria.messages m
        where m.company_id = $1
          and m.conversation_id = $2
          and not exists (
            select
            from secretaria.messages o
            join secretaria.deliveries d
              on d.company_id = o.company_id
              and d.delivery_id = o.message_id
            where o.company_id = m.company_id
              and o.turn_id = m.turn_id
              and o.direction = 'out'
          )";
    let rows = query(tx, sql, &[&company.0, &conversation]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}
