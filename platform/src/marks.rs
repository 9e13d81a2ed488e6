//! Outcome marks: one row per processor and event, which is also the proof that the event was seen.
//!
//! This module alone writes `event_marks`.

use std::collections::HashMap;

use domain::{CompanyId, EventId, Mark, ProcessorName, Topic};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::postgres::{self, Transaction};

/// An event as the intake first meets it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whose.
    pub company: CompanyId,
    /// Which.
    pub event: EventId,
    /// Where it lay.
    pub topic: Topic,
    /// Where it lay.
    pub partition: i32,
    /// Where it lay.
    pub offset: i64,
    /// Whether the record says it is a replay of a parked one.
    pub replay: Replay,
}

/// Whether a record was put back on its topic from the shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// By an operator.
    Yes,
    /// It is here for the first time, or as a producer's repeat.
    No,
}

/// What the marks say about an event that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Never seen: it is to be handled, and has a mark `in_flight` now.
    Fresh,
    /// Was parked and is replayed: it is to be handled again.
    Reopened,
    /// Has a mark already: nothing is to be done.
    Duplicate,
}

/// Marks events as in flight and says for each, in order, whether it is to be handled.
///
/// An event that occurs twice in one call is fresh once.
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub async fn open(tx: &Transaction<'_>, processor: ProcessorName, events: &[Seen]) -> Result<Vec<Standing>, Error> {
    let mut rows = HashMap::new();
    let (mut companies, mut ids, mut topics) = (Vec::new(), Vec::new(), Vec::new());
    let (mut partitions, mut offsets) = (Vec::new(), Vec::new());
    let mut replays = Vec::new();
    for seen in events {
        companies.push(seen.company.0);
        ids.push(seen.event.0);
        topics.push(seen.topic.as_str());
        partitions.push(seen.partition);
        offsets.push(seen.offset);
        replays.push(seen.replay == Replay::Yes);
    }
    let inserted = postgres::query(
        tx,
        "insert into secretaria.event_marks
               (company_id, processor, event_id, topic, partition, record_offset, state)
             select it.company_id, $1, it.event_id, it.topic, it.partition, it.record_offset, 'in_flight'
             from unnest($2::text[], $3::bigint[], $4::uuid[], $5::int[], $6::bigint[])
               as it (topic, company_id, event_id, partition, record_offset)
             on conflict do nothing
             returning company_id, event_id",
        &[&processor.as_str(), &topics, &companies, &ids, &partitions, &offsets],
    )
    .await?;
    rows.extend(inserted.iter().map(|row| (key(row), Standing::Fresh)));
    if replays.contains(&true) {
        let reopened = postgres::query(
            tx,
            "update secretaria.event_marks m
                 set state = 'in_flight', ended_at = null
                 from unnest($2::bigint[], $3::uuid[], $4::boolean[]) as it (company_id, event_id, replay)
                 where it.replay
                   and m.company_id = it.company_id and m.processor = $1 and m.event_id = it.event_id
                   and m.state = 'parked'
                 returning m.company_id, m.event_id",
            &[&processor.as_str(), &companies, &ids, &replays],
        )
        .await?;
        rows.extend(reopened.iter().map(|row| (key(row), Standing::Reopened)));
    }
    Ok(events.iter().map(|seen| rows.remove(&(seen.company.0, seen.event.0)).unwrap_or(Standing::Duplicate)).collect())
}

/// Writes down how events ended. Those still in flight are left alone; one that has ended stays as it is.
///
/// # Errors
/// If Postgres refuses.
pub async fn end(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    ended: &[(CompanyId, EventId, Mark)],
) -> Result<(), Error> {
    let ended: Vec<_> = ended.iter().filter(|(_, _, mark)| *mark != Mark::InFlight).collect();
    if ended.is_empty() {
        return Ok(());
    }
    let companies: Vec<i64> = ended.iter().map(|(company, _, _)| company.0).collect();
    let events: Vec<Uuid> = ended.iter().map(|(_, event, _)| event.0).collect();
    let states: Vec<&str> = ended.iter().map(|(_, _, mark)| mark.state()).collect();
    let reasons: Vec<Option<&str>> = ended.iter().map(|(_, _, mark)| mark.reason()).collect();
    postgres::execute(
        tx,
        "update secretaria.event_marks m
         set state = it.state, reason = it.reason, ended_at = now()
         from unnest($2::bigint[], $3::uuid[], $4::text[], $5::text[]) as it (company_id, event_id, state, reason)
         where m.company_id = it.company_id and m.processor = $1 and m.event_id = it.event_id
           and m.state = 'in_flight'",
        &[&processor.as_str(), &companies, &events, &states, &reasons],
    )
    .await?;
    Ok(())
}

fn key(row: &Row) -> (i64, Uuid) {
    (row.get(0), row.get(1))
}
