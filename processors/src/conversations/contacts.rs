//! conversations' SQL for contacts. A contact is a set of aliases; for most messages all aliases are known already.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use domain::{Address, Channel, CompanyId, ContactId, InboundMessage};
use platform::columns;
use platform::postgres::{Transaction, execute, query};
use tokio_postgres::Error;
use uuid::Uuid;

/// The contacts of messages, in their order. Contacts known by all aliases of the message are found in one query, which
/// locks the aliases in order; unknown ones are inserted in one statement; the rest is handled one by one.
pub(super) async fn find(
    tx: &Transaction<'_>,
    messages: &[(CompanyId, Cow<'_, InboundMessage>)],
) -> Result<Vec<ContactId>, Error> {
    let names: Vec<Vec<Address>> = messages.iter().map(|(_, message)| aliases_of(message)).collect();
    let mut known = KnownAliases::load(tx, messages, &names).await?;
    let mut new_contacts = NewContacts::default();
    let mut contacts = Vec::with_capacity(messages.len());
    for ((company, message), names) in messages.iter().zip(&names) {
        let contact = match known.match_of(*company, message, names) {
            ContactMatch::Known(contact) => contact,
            ContactMatch::Unknown => {
                let contact = ContactId::first_seen_as(*company, message.channel, &message.address);
                new_contacts.add(*company, contact, message, names);
                contact
            }
            ContactMatch::Changed => {
                // It may have aliases of contacts that are not inserted yet.
                std::mem::take(&mut new_contacts).insert(tx).await?;
                self::contact(tx, *company, message).await?
            }
        };
        known.learn(*company, message, names, contact);
        contacts.push(contact);
    }
    new_contacts.insert(tx).await?;
    Ok(contacts)
}

/// The key of an alias.
type Alias = (CompanyId, &'static str, Address);

/// The known aliases of a batch, and the names of their contacts.
#[derive(Default)]
struct KnownAliases {
    contacts: HashMap<Alias, ContactId>,
    names: HashMap<(CompanyId, ContactId), Option<String>>,
}

enum ContactMatch {
    /// All aliases are known, of one contact, and its name has not changed.
    Known(ContactId),
    /// No alias is known.
    Unknown,
    /// Something about the contact has to be updated.
    Changed,
}

impl KnownAliases {
    async fn load(
        tx: &Transaction<'_>,
        messages: &[(CompanyId, Cow<'_, InboundMessage>)],
        names: &[Vec<Address>],
    ) -> Result<Self, Error> {
        let mut asked: BTreeSet<(i64, &'static str, &str)> = BTreeSet::new();
        for ((company, message), names) in messages.iter().zip(names) {
            asked.extend(names.iter().map(|name| (company.0, message.channel.as_str(), name.as_str())));
        }
        let rows = query(
            tx,
            "select a.company_id, a.channel, a.alias, a.contact_id, c.name
             from unnest($1::bigint[], $2::text[], $3::text[]) as it (company_id, channel, alias)
             join secretaria.contact_aliases a using (company_id, channel, alias)
             join secretaria.contacts c using (company_id, contact_id)
             order by a.company_id, a.channel, a.alias
             for update of a",
            &columns![asked => |it| it.0, it.1, it.2],
        )
        .await?;
        let mut known = KnownAliases::default();
        for row in &rows {
            let (company, contact) = (CompanyId(row.get(0)), ContactId(row.get(3)));
            let Some(channel) = Channel::named(row.get(1)) else { continue };
            let alias = (company, channel.as_str(), Address::trusted(row.get::<_, String>(2)));
            known.contacts.insert(alias, contact);
            known.names.insert((company, contact), row.get(4));
        }
        Ok(known)
    }

    fn match_of(&self, company: CompanyId, message: &InboundMessage, names: &[Address]) -> ContactMatch {
        let alias = |name: &Address| (company, message.channel.as_str(), name.clone());
        let mut found = names.iter().map(|name| self.contacts.get(&alias(name)).copied());
        let Some(first) = found.next() else { return ContactMatch::Changed };
        if found.any(|it| it != first) {
            return ContactMatch::Changed;
        }
        let Some(contact) = first else { return ContactMatch::Unknown };
        let name = self.names.get(&(company, contact)).and_then(Option::as_deref);
        match message.name.as_deref() {
            Some(shown) if Some(shown) != name => ContactMatch::Changed,
            _ => ContactMatch::Known(contact),
        }
    }

    fn learn(&mut self, company: CompanyId, message: &InboundMessage, names: &[Address], contact: ContactId) {
        for name in names {
            self.contacts.insert((company, message.channel.as_str(), name.clone()), contact);
        }
        let name = self.names.entry((company, contact)).or_default();
        if message.name.is_some() {
            name.clone_from(&message.name);
        }
    }
}

/// Contacts to be inserted, with their aliases.
#[derive(Default)]
struct NewContacts {
    contacts: Vec<(i64, Uuid, &'static str, Option<String>)>,
    aliases: Vec<(i64, &'static str, String, Uuid)>,
}

impl NewContacts {
    fn add(&mut self, company: CompanyId, contact: ContactId, message: &InboundMessage, names: &[Address]) {
        let channel = message.channel.as_str();
        self.contacts.push((company.0, contact.0, channel, message.name.clone()));
        self.aliases.extend(names.iter().map(|name| (company.0, channel, name.as_str().to_owned(), contact.0)));
    }

    async fn insert(mut self, tx: &Transaction<'_>) -> Result<(), Error> {
        if self.contacts.is_empty() {
            return Ok(());
        }
        self.aliases.sort();
        execute(
            tx,
            "insert into secretaria.contacts (company_id, contact_id, channel, name)
             select company_id, contact_id, channel, name
             from unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[]) as it (company_id, contact_id, channel, name)
             order by company_id, contact_id
             on conflict (company_id, contact_id) do update
             set name = coalesce(contacts.name, excluded.name)",
            &columns![self.contacts => |it| it.0, it.1, it.2, it.3.as_deref()],
        )
        .await?;
        execute(
            tx,
            "insert into secretaria.contact_aliases (company_id, channel, alias, contact_id)
             select company_id, channel, alias, contact_id
             from unnest($1::bigint[], $2::text[], $3::text[], $4::uuid[]) as it (company_id, channel, alias, contact_id)
             on conflict do nothing",
            &columns![self.aliases => |it| it.0, it.1, it.2.as_str(), it.3],
        )
        .await?;
        Ok(())
    }
}

/// The contact of a message: the one of any known alias, or a new one. If the aliases belong to several contacts, all
/// become those of one, preferably one known by phone. Known aliases are locked in order. Two concurrent first messages
/// with different aliases make two contacts, until a message with both aliases arrives.
async fn contact(tx: &Transaction<'_>, company: CompanyId, message: &InboundMessage) -> Result<ContactId, Error> {
    let channel = message.channel.as_str();
    let aliases = aliases_of(message);
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
        let contact = ContactId::first_seen_as(company, message.channel, &message.address);
        let mut new_contact = NewContacts::default();
        new_contact.add(company, contact, message, &aliases);
        new_contact.insert(tx).await?;
        return Ok(contact);
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

fn aliases_of(message: &InboundMessage) -> Vec<Address> {
    let mut names = message.aliases.clone();
    names.push(message.address.clone());
    names.sort();
    names.dedup();
    names
}
