//! conversations' SQL: who wrote. A contact is a set of aliases; most messages come from one that is known by all of them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use domain::{Address, Channel, CompanyId, ContactId, InboundMessage};
use platform::columns;
use platform::postgres::{Transaction, execute, query};
use tokio_postgres::Error;
use uuid::Uuid;

/// The contacts of messages, in their order. Those known by all their aliases are found together and locked in one order;
/// the unknown ones are made together; the others are looked at one by one.
pub(super) async fn find(
    tx: &Transaction<'_>,
    messages: &[(CompanyId, Cow<'_, InboundMessage>)],
) -> Result<Vec<ContactId>, Error> {
    let names: Vec<Vec<Address>> = messages.iter().map(|(_, message)| known_names(message)).collect();
    let mut known = Known::look(tx, messages, &names).await?;
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
            ContactMatch::Unclear => {
                // It may be about those that are yet to be made.
                std::mem::take(&mut new_contacts).make(tx).await?;
                self::contact(tx, *company, message).await?
            }
        };
        known.learn(*company, message, names, contact);
        contacts.push(contact);
    }
    new_contacts.make(tx).await?;
    Ok(contacts)
}

/// What an alias is looked up by.
type Alias = (CompanyId, &'static str, Address);

/// What is known of the aliases of a batch.
#[derive(Default)]
struct Known {
    contacts: HashMap<Alias, ContactId>,
    names: HashMap<(CompanyId, ContactId), Option<String>>,
}

enum ContactMatch {
    /// By all its aliases, as one contact, under the name that it has.
    Known(ContactId),
    /// By none of them.
    Unknown,
    /// Something is to be written.
    Unclear,
}

impl Known {
    async fn look(
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
        let mut known = Known::default();
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
        let Some(first) = found.next() else { return ContactMatch::Unclear };
        if found.any(|it| it != first) {
            return ContactMatch::Unclear;
        }
        let Some(contact) = first else { return ContactMatch::Unknown };
        let name = self.names.get(&(company, contact)).and_then(Option::as_deref);
        match message.name.as_deref() {
            Some(shown) if Some(shown) != name => ContactMatch::Unclear,
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

/// Contacts to be made, with their aliases.
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

    async fn make(mut self, tx: &Transaction<'_>) -> Result<(), Error> {
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

/// Who wrote: the contact that any of the aliases names, or a new one. Aliases that meet become one contact, the one
/// known by phone. Known aliases are locked in order; two first messages at once, each under another alias, make two
/// contacts until a message comes that carries both names.
async fn contact(tx: &Transaction<'_>, company: CompanyId, message: &InboundMessage) -> Result<ContactId, Error> {
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
        let contact = ContactId::first_seen_as(company, message.channel, &message.address);
        let mut new_contact = NewContacts::default();
        new_contact.add(company, contact, message, &aliases);
        new_contact.make(tx).await?;
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

fn known_names(message: &InboundMessage) -> Vec<Address> {
    let mut names = message.aliases.clone();
    names.push(message.address.clone());
    names.sort();
    names.dedup();
    names
}
