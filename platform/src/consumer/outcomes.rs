//! Event outcomes: one row per processor and event, which is also the proof that the event was seen.
//!
//! This module alone writes `event_outcomes`.

use std::collections::HashMap;

use domain::{CompanyId, EventId, EventOutcome, ProcessorName, Topic};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::postgres::{self, Transaction};

/// An event that was read, before it is known whether it is to be handled.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub company: CompanyId,
    pub event: EventId,
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    /// Whether the record says it is a replay of a dead-lettered one.
    pub replay: Replay,
}

/// Whether a record was put back on its topic from `dead_letters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    Yes,
    /// It was published by a producer, for the first time or again.
    No,
}

/// Whether an event is to be handled, by its recorded outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Never seen: it is to be handled, and has an outcome `in_flight` now.
    New,
    /// Was dead-lettered and is replayed: it is to be handled again.
    Replayed,
    /// Has an outcome already: nothing is to be done.
    Duplicate,
}

/// Records events as in flight and returns for each, in order, whether it is to be handled.
///
/// An event that occurs twice in one call is new once, then a duplicate.
///
/// # Errors
/// If Postgres refuses; the transaction is then lost.
pub async fn admit(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    events: &[Incoming],
) -> Result<Vec<Admission>, Error> {
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
        "insert into secretaria.event_outcomes
               (company_id, processor, event_id, topic, partition, record_offset, state)
             select it.company_id, $1, it.event_id, it.topic, it.partition, it.record_offset, 'in_flight'
             from unnest($2::text[], $3::bigint[], $4::uuid[], $5::int[], $6::bigint[])
               as it (topic, company_id, event_id, partition, record_offset)
             on conflict do nothing
             returning company_id, event_id",
        &[&processor.as_str(), &topics, &companies, &ids, &partitions, &offsets],
    )
    .await?;
    rows.extend(inserted.iter().map(|row| (key(row), Admission::New)));
    if replays.contains(&true) {
        let replayed = postgres::query(
            tx,
            "update secretaria.event_outcomes m
                 set state = 'in_flight', ended_at = null
                 from unnest($2::bigint[], $3::uuid[], $4::boolean[]) as it (company_id, event_id, replay)
                 where it.replay
                   and m.company_id = it.company_id and m.processor = $1 and m.event_id = it.event_id
                   and m.state = 'dead_lettered'
                 returning m.company_id, m.event_id",
            &[&processor.as_str(), &companies, &ids, &replays],
        )
        .await?;
        rows.extend(replayed.iter().map(|row| (key(row), Admission::Replayed)));
    }
    Ok(events.iter().map(|seen| rows.remove(&(seen.company.0, seen.event.0)).unwrap_or(Admission::Duplicate)).collect())
}

/// Records the outcomes of events. Those still in flight are left alone; one that has ended stays as it is.
///
/// # Errors
/// If Postgres refuses.
pub async fn record(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    ended: &[(CompanyId, EventId, EventOutcome)],
) -> Result<(), Error> {
    let ended: Vec<_> = ended.iter().filter(|(_, _, outcome)| *outcome != EventOutcome::InFlight).collect();
    if ended.is_empty() {
        return Ok(());
    }
    let companies: Vec<i64> = ended.iter().map(|(company, _, _)| company.0).collect();
    let events: Vec<Uuid> = ended.iter().map(|(_, event, _)| event.0).collect();
    let states: Vec<&str> = ended.iter().map(|(_, _, outcome)| outcome.state()).collect();
    let reasons: Vec<Option<&str>> = ended.iter().map(|(_, _, outcome)| outcome.reason()).collect();
    postgres::execute(
        tx,
        "update secretaria.event_outcomes m
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
