//! Accounting by range: what `event_ranges` says of the offsets that one transaction passed. No other module writes it.

use std::collections::BTreeMap;

use domain::{Mark, ProcessorName};
use tokio_postgres::Error;

use super::Ended;
use crate::kafka::TopicPartition;
use crate::postgres::{self, Transaction};

struct Range {
    first: i64,
    last: i64,
    done: i64,
    ignored: i64,
    parked: i64,
}

/// Adds a row per partition of a batch, whose events have all ended.
///
/// # Errors
/// If Postgres refuses, which it does if a range begins where another one did.
pub(super) async fn add(tx: &Transaction<'_>, processor: ProcessorName, ended: &[Ended<'_>]) -> Result<(), Error> {
    let mut ranges = BTreeMap::<TopicPartition, Range>::new();
    for it in ended {
        let offset = it.record.offset;
        let empty = Range { first: offset, last: offset, done: 0, ignored: 0, parked: 0 };
        let range = ranges.entry(it.record.at()).or_insert(empty);
        range.first = range.first.min(offset);
        range.last = range.last.max(offset);
        match it.mark {
            // Nothing is left in flight by contract: what was taken in is done with this transaction.
            Mark::Done | Mark::InFlight => range.done += 1,
            Mark::Ignored(_) => range.ignored += 1,
            Mark::Parked => range.parked += 1,
        }
    }
    let topics: Vec<&str> = ranges.keys().map(|it| it.topic.as_str()).collect();
    let partitions: Vec<i32> = ranges.keys().map(|it| it.partition).collect();
    let of = |pick: fn(&Range) -> i64| -> Vec<i64> { ranges.values().map(pick).collect() };
    postgres::execute(
        tx,
        "insert into secretaria.event_ranges
           (processor, topic, partition, first_offset, last_offset, done, ignored, parked)
         select $1, it.topic, it.partition, it.first_offset, it.last_offset, it.done, it.ignored, it.parked
         from unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
           as it (topic, partition, first_offset, last_offset, done, ignored, parked)",
        &[
            &processor.as_str(),
            &topics,
            &partitions,
            &of(|it| it.first),
            &of(|it| it.last),
            &of(|it| it.done),
            &of(|it| it.ignored),
            &of(|it| it.parked),
        ],
    )
    .await?;
    Ok(())
}
