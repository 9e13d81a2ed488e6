//! dead_letters — events that could not be handled: list, replay, drop.
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
    /// Of one company; [`CompanyId::NONE`] for records that named none.
    pub company: Option<CompanyId>,
    pub processor: Option<ProcessorName>,
    pub cause: Option<String>,
    pub event: Option<EventId>,
    /// Dead-lettered at or after.
    pub since: Option<Timestamp>,
    /// At most so many, oldest first.
    pub limit: u32,
}

/// Whether dead letters are settled or only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Dry,
    Real,
}

/// The dead letters that are not settled yet.
///
/// # Errors
/// If Postgres is away.
pub async fn list(db: &Db, filter: &Filter) -> Result<Vec<DeadLetter>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    Ok(store::waiting(&tx, filter).await?)
}

/// Publishes dead letters to the topics they came from again; returns which.
///
/// # Errors
/// If Postgres is away; then none is.
pub async fn replay(db: &Db, filter: &Filter, by: &str, run: Run) -> Result<Vec<DeadLetter>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let dead_letters = store::waiting(&tx, filter).await?;
    if run == Run::Real {
        let entries: Vec<Entry> = dead_letters.iter().filter_map(replay_entry).collect();
        outbox::push(&tx, &entries).await?;
        store::settle(&tx, &dead_letters, "replayed", by).await?;
        tx.commit().await?;
    }
    Ok(dead_letters)
}

/// Settles dead letters without a replay; their events stay counted as dead-lettered. Returns which.
///
/// # Errors
/// If Postgres is away; then none is.
pub async fn drop(db: &Db, filter: &Filter, by: &str, run: Run) -> Result<Vec<DeadLetter>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let dead_letters = store::waiting(&tx, filter).await?;
    if run == Run::Real {
        store::settle(&tx, &dead_letters, "dropped", by).await?;
        tx.commit().await?;
    }
    Ok(dead_letters)
}

/// The original record, with headers that say where it came from and how often it was tried; `None` if its topic is
/// unknown.
fn replay_entry(it: &DeadLetter) -> Option<Entry> {
    let topic = Topic::named(&it.topic)?;
    let origin = format!("{}/{}/{}", it.topic, it.partition, it.offset);
    let key = it.key.clone().unwrap_or_default();
    let mut headers = dead_letter::with_history(&it.headers, &it.cause, &origin, it.attempts);
    if !headers.iter().any(|(name, _)| name == header::EVENT_ID) {
        // Its id was derived from its position; at another position it must keep that id.
        headers.push((header::EVENT_ID.to_owned(), it.event.to_string().into_bytes()));
    }
    Some(Entry {
        company: it.company,
        topic,
        subject: dead_letter::subject_of(&key),
        key,
        spread: it.spread,
        event: it.event,
        headers,
        payload: it.payload.clone().unwrap_or_default(),
    })
}
