//! dead letters — events that could not be handled: look, replay, drop.
//!
//! reads    table `dead_letters` (`platform::dead_letter` adds the rows)
//! writes   the origin's topic, through the outbox, with the original bytes and the event's own id
//! owns     the settling of `dead_letters`
//! repeats  safe: a row is settled once; a replayed event is handled again only while its outcome is `dead_lettered`

mod store;
#[cfg(test)]
mod tests;

use domain::{CompanyId, EventId, ProcessorName, Topic, header};
use jiff::Timestamp;
use platform::dead_letter;
use platform::outbox::{self, Entry};
use platform::postgres::{Db, Failure};

pub use store::DeadLetter;

#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one company; [`CompanyId::NOBODY`] for records that named none.
    pub company: Option<CompanyId>,
    pub processor: Option<ProcessorName>,
    pub cause: Option<String>,
    pub event: Option<EventId>,
    /// DeadLettered at or after.
    pub since: Option<Timestamp>,
    /// At most so many, oldest first.
    pub limit: u32,
}

/// Whether letters are settled or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Dry,
    Real,
}

/// What waits on the dead_letters.
///
/// # Errors
/// If Postgres is away.
pub async fn list(db: &Db, filter: &Filter) -> Result<Vec<DeadLetter>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    Ok(store::waiting(&tx, filter).await?)
}

/// Puts letters back on the topics they came from; returns which.
///
/// # Errors
/// If Postgres is away; then none is.
pub async fn replay(db: &Db, filter: &Filter, by: &str, run: Run) -> Result<Vec<DeadLetter>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let letters = store::waiting(&tx, filter).await?;
    if run == Run::Real {
        let entries: Vec<Entry> = letters.iter().filter_map(back_on_its_topic).collect();
        outbox::push(&tx, &entries).await?;
        store::settle(&tx, &letters, "replayed", by).await?;
        tx.commit().await?;
    }
    Ok(letters)
}

/// Gives dead letters up for good; their events stay counted as dead-lettered. Returns which.
///
/// # Errors
/// If Postgres is away; then none is.
pub async fn drop(db: &Db, filter: &Filter, by: &str, run: Run) -> Result<Vec<DeadLetter>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let letters = store::waiting(&tx, filter).await?;
    if run == Run::Real {
        store::settle(&tx, &letters, "dropped", by).await?;
        tx.commit().await?;
    }
    Ok(letters)
}

/// The record as it lay there, and headers that say it is not there for the first time.
fn back_on_its_topic(letter: &DeadLetter) -> Option<Entry> {
    let topic = Topic::named(&letter.topic)?;
    let origin = format!("{}/{}/{}", letter.topic, letter.partition, letter.offset);
    let key = letter.key.clone().unwrap_or_default();
    let mut headers = dead_letter::with_history(&letter.headers, &letter.cause, &origin, letter.attempts);
    if !headers.iter().any(|(name, _)| name == header::EVENT_ID) {
        // It was named after where it lay; elsewhere it must keep that name.
        headers.push((header::EVENT_ID.to_owned(), letter.event.to_string().into_bytes()));
    }
    Some(Entry {
        company: letter.company,
        topic,
        subject: dead_letter::subject_of(&key),
        key,
        spread: letter.spread,
        event: letter.event,
        headers,
        payload: letter.payload.clone().unwrap_or_default(),
    })
}
