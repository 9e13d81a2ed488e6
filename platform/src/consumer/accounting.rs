//! How a consumer records the events it has read: an outcome each, or ranges of offsets. No other module writes
//! `event_ranges`.

use std::collections::BTreeMap;

use domain::{CompanyId, EventId, EventOutcome, ProcessorName};
use tokio_postgres::Error;

use super::{Consumer, Handler, Invalid};
use crate::kafka::{Record, TopicPartition};
use crate::outcomes::{self, Admission};
use crate::postgres::{self, Failure, Transaction};

/// How a consumer records the events it has read; the checks of conservation read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounting {
    /// An outcome per event, which also detects repeats.
    ByEvent,
    /// A row per batch and partition, in `event_ranges`. Each offset is handled once; a record that a producer sends twice
    /// is handled twice, and no event may be left in flight.
    ByRange,
}

/// An event that was not a duplicate, with its outcome after the batch.
pub(super) struct HandledEvent<'a> {
    pub(super) company: CompanyId,
    pub(super) event: EventId,
    pub(super) record: &'a Record,
    pub(super) outcome: EventOutcome,
}

impl<'a> HandledEvent<'a> {
    /// A record that cannot be handled.
    pub(super) fn of(invalid: &Invalid<'a>, outcome: EventOutcome) -> Self {
        HandledEvent { company: invalid.company, event: invalid.event, record: invalid.record, outcome }
    }
}

impl<I: Handler> Consumer<I> {
    /// Whether each event is new, replayed or a duplicate.
    pub(super) async fn admit(
        &self,
        tx: &Transaction<'_>,
        seen: &[outcomes::Incoming],
    ) -> Result<Vec<Admission>, Failure> {
        match I::ACCOUNTING {
            Accounting::ByEvent => Ok(outcomes::admit(tx, I::PROCESSOR, seen).await?),
            Accounting::ByRange => Ok(vec![Admission::New; seen.len()]),
        }
    }

    /// Records the outcomes of events.
    pub(super) async fn record_outcomes(
        &self,
        tx: &Transaction<'_>,
        ended: &[HandledEvent<'_>],
    ) -> Result<(), Failure> {
        match I::ACCOUNTING {
            Accounting::ByEvent => {
                let ended: Vec<_> = ended.iter().map(|it| (it.company, it.event, it.outcome)).collect();
                Ok(outcomes::record(tx, I::PROCESSOR, &ended).await?)
            }
            Accounting::ByRange => Ok(add_ranges(tx, I::PROCESSOR, ended).await?),
        }
    }
}

struct Range {
    first: i64,
    last: i64,
    done: i64,
    ignored: i64,
    dead_lettered: i64,
}

/// Adds a row per partition of a batch, all of whose events have ended.
///
/// # Errors
/// If Postgres refuses, for example because a range with the same first offset exists.
async fn add_ranges(tx: &Transaction<'_>, processor: ProcessorName, ended: &[HandledEvent<'_>]) -> Result<(), Error> {
    let mut ranges = BTreeMap::<TopicPartition, Range>::new();
    for it in ended {
        let offset = it.record.offset;
        let empty = Range { first: offset, last: offset, done: 0, ignored: 0, dead_lettered: 0 };
        let range = ranges.entry(it.record.at()).or_insert(empty);
        range.first = range.first.min(offset);
        range.last = range.last.max(offset);
        match it.outcome {
            // With `ByRange` nothing stays in flight: an event that was handled is done with this transaction.
            EventOutcome::Done | EventOutcome::InFlight => range.done += 1,
            EventOutcome::Ignored(_) => range.ignored += 1,
            EventOutcome::DeadLettered => range.dead_lettered += 1,
        }
    }
    let topics: Vec<&str> = ranges.keys().map(|it| it.topic.as_str()).collect();
    let partitions: Vec<i32> = ranges.keys().map(|it| it.partition).collect();
    let of = |pick: fn(&Range) -> i64| -> Vec<i64> { ranges.values().map(pick).collect() };
    postgres::execute(
        tx,
        "insert into secretaria.event_ranges
           (processor, topic, partition, first_offset, last_offset, done, ignored, dead_lettered)
         select $1, it.topic, it.partition, it.first_offset, it.last_offset, it.done, it.ignored, it.dead_lettered
         from unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
           as it (topic, partition, first_offset, last_offset, done, ignored, dead_lettered)",
        &[
            &processor.as_str(),
            &topics,
            &partitions,
            &of(|it| it.first),
            &of(|it| it.last),
            &of(|it| it.done),
            &of(|it| it.ignored),
            &of(|it| it.dead_lettered),
        ],
    )
    .await?;
    Ok(())
}
