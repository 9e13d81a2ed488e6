//! The consumer's own tables: `consumer_offsets` and `consumer_counts`. No other module writes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;
use std::time::Duration;

use domain::{CompanyId, ProcessorName, Topic};
use tokio_postgres::{Error, Row};

use super::CommittedOffsets;
use crate::clock;
use crate::kafka::{Record, TopicPartition};
use crate::outcomes::{Admission, Incoming};
use crate::postgres::{self, Db, GenericClient, Transaction};
use crate::task::Stop;
use crate::telemetry::chain;

/// The move of one partition's offset: from the expected one to the end of the batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct OffsetStep {
    pub(super) at: TopicPartition,
    expected: Option<i64>,
    first: i64,
    next: i64,
}

/// The moves of a batch, one per partition.
pub(super) fn steps(batch: &[Record], committed_offsets: &HashMap<TopicPartition, i64>) -> Vec<OffsetStep> {
    let mut steps = BTreeMap::<TopicPartition, OffsetStep>::new();
    for record in batch {
        let next = record.offset + 1;
        let (at, expected) = (record.at(), committed_offsets.get(&record.at()).copied());
        steps.entry(at).or_insert(OffsetStep { at, expected, first: record.offset, next }).next = next;
    }
    steps.into_values().collect()
}

/// Compare-and-set: moves each partition that is at its expected offset, and returns the new offsets of those.
pub(super) async fn move_offsets(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    steps: &[OffsetStep],
) -> Result<HashMap<TopicPartition, i64>, Error> {
    let topics: Vec<&str> = steps.iter().map(|it| it.at.topic.as_str()).collect();
    let partitions: Vec<i32> = steps.iter().map(|it| it.at.partition).collect();
    let expected: Vec<Option<i64>> = steps.iter().map(|it| it.expected).collect();
    let first: Vec<i64> = steps.iter().map(|it| it.first).collect();
    let next: Vec<i64> = steps.iter().map(|it| it.next).collect();
    let rows = postgres::query(
        tx,
        "with step as (
               select * from unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
                 as it (topic, partition, expected, first_offset, next_offset)
             ), begun as (
               insert into secretaria.consumer_offsets (processor, topic, partition, first_offset, next_offset)
               select $1, topic, partition, first_offset, next_offset from step where expected is null
               order by topic, partition
               on conflict do nothing
               returning topic, partition, next_offset
             ), moved as (
               update secretaria.consumer_offsets o
               set next_offset = step.next_offset, moved_at = now()
               from step
               where o.processor = $1 and o.topic = step.topic and o.partition = step.partition
                 and o.next_offset = step.expected
               returning o.topic, o.partition, o.next_offset
             )
             select * from begun union all select * from moved",
        &[&processor.as_str(), &topics, &partitions, &expected, &first, &next],
    )
    .await?;
    Ok(rows.iter().filter_map(position).collect())
}

pub(super) async fn load(
    client: &impl GenericClient,
    processor: ProcessorName,
    partitions: &[TopicPartition],
) -> Result<HashMap<TopicPartition, i64>, Error> {
    let topics: Vec<&str> = partitions.iter().map(|it| it.topic.as_str()).collect();
    let numbers: Vec<i32> = partitions.iter().map(|it| it.partition).collect();
    let rows = postgres::query(
        client,
        "select topic, partition, next_offset
             from secretaria.consumer_offsets
             where processor = $1 and (topic, partition) in (select * from unnest($2::text[], $3::int[]))",
        &[&processor.as_str(), &topics, &numbers],
    )
    .await?;
    Ok(rows.iter().filter_map(position).collect())
}

/// A row of topic, partition and offset; `None` for a topic that this build does not know.
fn position(row: &Row) -> Option<(TopicPartition, i64)> {
    let at = TopicPartition { topic: Topic::named(row.get(0))?, partition: row.get(1) };
    Some((at, row.get(2)))
}

/// Counts what was read, per company and partition.
pub(super) async fn count(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    seen: &[Incoming],
    admissions: &[Admission],
) -> Result<(), Error> {
    let mut counts = BTreeMap::<(CompanyId, Topic, i32), [i64; 3]>::new();
    for (seen, admission) in seen.iter().zip(admissions) {
        counts.entry((seen.company, seen.topic, seen.partition)).or_default()[*admission as usize] += 1;
    }
    let companies: Vec<i64> = counts.keys().map(|(company, ..)| company.0).collect();
    let topics: Vec<&str> = counts.keys().map(|(_, topic, _)| topic.as_str()).collect();
    let partitions: Vec<i32> = counts.keys().map(|(.., partition)| *partition).collect();
    let of = |admission: Admission| -> Vec<i64> { counts.values().map(|it| it[admission as usize]).collect() };
    postgres::execute(
        tx,
        "insert into secretaria.consumer_counts as c
           (company_id, processor, topic, partition, records, admitted, duplicates, replayed)
         select it.company_id, $1, it.topic, it.partition, it.admitted + it.duplicates + it.replayed, it.admitted, it.duplicates,
           it.replayed
         from unnest($2::bigint[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[])
           as it (company_id, topic, partition, admitted, duplicates, replayed)
         on conflict (company_id, processor, topic, partition) do update
         set records = c.records + excluded.records, admitted = c.admitted + excluded.admitted,
           duplicates = c.duplicates + excluded.duplicates, replayed = c.replayed + excluded.replayed",
        &[
            &processor.as_str(),
            &companies,
            &topics,
            &partitions,
            &of(Admission::New),
            &of(Admission::Duplicate),
            &of(Admission::Replayed),
        ],
    )
    .await?;
    Ok(())
}

/// The function that the polling thread calls at assignment to load committed offsets. It waits for Postgres as long as
/// the broker allows a poll to take; if Postgres is still unavailable then, reading starts at the beginning and the
/// compare-and-set of the first commit corrects that.
pub(super) fn committed_offsets(
    db: Db,
    processor: ProcessorName,
    known: CommittedOffsets,
    stop: Stop,
) -> impl Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static {
    let runtime = tokio::runtime::Handle::current();
    move |partitions| {
        let found = runtime.block_on(async {
            let began = clock::instant();
            while began.elapsed() < Duration::from_secs(200) {
                match try_load(&db, processor, partitions).await {
                    Some(found) => return found,
                    None if stop.is_cancelled() => break,
                    None => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
            HashMap::new()
        });
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            match found.get(partition) {
                Some(next) => drop(known.insert(*partition, *next)),
                None => drop(known.remove(partition)),
            }
        }
        found
    }
}

async fn try_load(
    db: &Db,
    processor: ProcessorName,
    partitions: &[TopicPartition],
) -> Option<HashMap<TopicPartition, i64>> {
    let client = match db.get().await {
        Ok(client) => client,
        Err(problem) => {
            tracing::warn!(%processor, error = chain(&problem), "assigned partitions wait for postgres");
            return None;
        }
    };
    load(&client, processor, partitions)
        .await
        .inspect_err(|problem| {
            tracing::warn!(%processor, error = chain(&problem), "assigned partitions wait for postgres");
        })
        .ok()
}
