//! archive — puts what is counted of every event into the lake.
//!
//! reads    every topic except `dead.letters`, whose records are those of other topics
//! writes   Parquet files, `lake_batches`, `lake_files`, the marks of `rollup_utc_days`
//! repeats  safe: a file is written before the transaction that names it, under a name that follows from the batch's
//!          offsets; offsets, ranges and manifest are one transaction
//!
//! A record that cannot be read is ignored here: the processor whose work it is makes a dead letter of it. Of
//! `activity.events`, which nothing else reads, archive makes dead letters itself. While the store
//! is away or full the consumer waits; Kafka keeps the records.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{EventOutcome, Kind, ProcessorName, Topic};
use metrics::counter;
use platform::consumer::{Accounting, Event, Handled, Handler, Unreadable};
use platform::kafka::{self, Batches};
use platform::metric;
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Entry, Error};
use platform::settings;
use platform::task::Stop;
use platform::telemetry::chain;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::file::{self, NewFile};
use super::manifest::{self, Batch};
use super::schema::EventRow;
use super::{Counted, Lake};

const TOPICS: &[Topic] =
    &[Topic::InboundMessages, Topic::OutboundMessages, Topic::UsageEvents, Topic::Alerts, Topic::ActivityEvents];

/// The processor's entry in the list.
pub const PROCESSOR: Entry = Entry::named("archive", "puts what is counted of every event into the lake", TOPICS);

/// Settings `archive.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most events of a batch, which is one file per day.
    pub batch_records: usize,
    /// Most bytes of the records of a batch.
    pub batch_bytes: usize,
    /// How long a batch waits until it is full, in milliseconds.
    pub batch_wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { batch_records: 100_000, batch_bytes: 64 << 20, batch_wait_ms: 5_000 }
    }
}

impl Config {
    /// # Errors
    /// Names the invalid setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if !(1..=1_000_000).contains(&self.batch_records) {
            return Err(settings::Error::invalid("archive.batch_records", "must be between 1 and 1000000"));
        }
        if !(65_536..=1 << 30).contains(&self.batch_bytes) {
            return Err(settings::Error::invalid("archive.batch_bytes", "must be between 65536 and 1073741824"));
        }
        if self.batch_wait_ms > 600_000 {
            return Err(settings::Error::invalid("archive.batch_wait_ms", "must be at most 600000"));
        }
        Ok(())
    }

    /// # Errors
    /// None: the store is opened when the processor starts.
    pub fn validate_to_run(&self) -> Result<(), settings::Error> {
        Ok(())
    }

    /// No time: there are no calls to wait for.
    pub fn drain_ms(&self) -> u64 {
        0
    }
}

/// Runs the consumer until stopped.
///
/// # Errors
/// If the store cannot be opened, or librdkafka refuses the settings.
pub async fn run(context: Context, config: Config, stop: Stop) -> Result<(), Error> {
    let lake = Lake::open(&context.object_store).map_err(Error::client)?;
    context.consume(Archive { lake, config }, stop).await
}

/// How long the store may take for a file. The transaction waits for it, and Postgres ends one that is idle for a minute.
const PUT_TIMEOUT: Duration = Duration::from_secs(40);

/// Writes batches.
pub(super) struct Archive {
    pub(super) lake: Lake,
    pub(super) config: Config,
}

impl Handler for Archive {
    type Payload = Counted;

    const PROCESSOR: ProcessorName = PROCESSOR.name;
    const TOPICS: &'static [Topic] = TOPICS;
    const KINDS: &'static [Kind] = Kind::EVENTS;
    const ACCOUNTING: Accounting = Accounting::ByRange;

    fn batches(&self, _: &kafka::Config) -> Batches {
        Batches {
            records: self.config.batch_records,
            bytes: self.config.batch_bytes,
            wait: Duration::from_millis(self.config.batch_wait_ms),
        }
    }

    /// The processor whose work a record is makes a dead letter of it; how work ended is read here alone.
    fn unreadable(topic: Topic) -> Unreadable {
        match topic {
            Topic::ActivityEvents => Unreadable::DeadLettered,
            _ => Unreadable::Ignored,
        }
    }

    async fn handle(&self, tx: &Transaction<'_>, events: &[Event<'_, Self::Payload>]) -> Result<Handled, Failure> {
        let (batch, files) = self.write(events).await?;
        if batch.records > 0 {
            manifest::add_batch(tx, &batch, &files).await?;
        }
        Ok(vec![EventOutcome::Done; events.len()].into())
    }
}

impl Archive {
    /// Writes the files of a batch into the store; no row names them yet.
    async fn write(&self, events: &[Event<'_, Counted>]) -> Result<(Batch, Vec<NewFile>), Failure> {
        let ranges = ranges(events);
        let id = batch_id(&ranges, events);
        let rows = events.iter().map(|it| EventRow::of(it.record.topic, &it.envelope)).collect();
        // Sorting and compressing are not for the threads that serve.
        let encoded = tokio::task::spawn_blocking(move || file::files_of(id, rows)).await;
        let encoded =
            encoded.map_err(|it| Failure::Unavailable(format!("events of a batch cannot be encoded: {it}")))?;
        let (files, repeats) = encoded.map_err(|it| away(&it))?;
        for file in &files {
            let path = file.path();
            let put = tokio::time::timeout(PUT_TIMEOUT, self.lake.put(&path, file.bytes.clone())).await;
            put.map_err(|_| Failure::Unavailable(format!("object store did not take a file within {PUT_TIMEOUT:?}")))?
                .map_err(|it| away(&it))?;
            counter!(metric::LAKE_BYTES_WRITTEN).increment(file.bytes.len() as u64);
        }
        counter!(metric::LAKE_EVENTS_WRITTEN).increment(events.len() as u64 - repeats);
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let batch = Batch { id, ranges, records: count(events.len() as u64), repeats: count(repeats) };
        Ok((batch, files))
    }
}

/// The consumer waits and tries again: no record is at fault.
fn away(problem: &super::Error) -> Failure {
    Failure::Unavailable(chain(problem))
}

/// The offsets of each partition that the events span.
fn ranges(events: &[Event<'_, Counted>]) -> Vec<(Topic, i32, i64, i64)> {
    let mut ranges = BTreeMap::<(Topic, i32), (i64, i64)>::new();
    for it in events {
        let offset = it.record.offset;
        let range = ranges.entry((it.record.topic, it.record.partition)).or_insert((offset, offset));
        *range = (range.0.min(offset), range.1.max(offset));
    }
    ranges.into_iter().map(|((topic, partition), (first, last))| (topic, partition, first, last)).collect()
}

/// The same events at the same offsets are the same batch, so that a repeat replaces the files of the first try. The events
/// belong to it because offsets begin again when a topic is recreated.
fn batch_id(ranges: &[(Topic, i32, i64, i64)], events: &[Event<'_, Counted>]) -> Uuid {
    let mut name = b"lake".to_vec();
    for (topic, partition, first, last) in ranges {
        name.extend(format!("/{topic}/{partition}/{first}-{last}").into_bytes());
    }
    name.extend(events.iter().flat_map(|it| it.envelope.event_id.0.into_bytes()));
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &name)
}
