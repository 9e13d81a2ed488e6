//! Consumer: topics into Postgres, exactly once.
//!
//! One poll is one transaction: what the handler writes for the events, their outcomes, the counts and the
//! consumer's offsets, which move by compare-and-set. A record that cannot be read is dead-lettered with its cause and the
//! partition goes on; so is one that Postgres refuses, or that keeps failing alone ([`isolate`]). While Postgres is
//! unavailable the consumer keeps its batch in memory and retries; Kafka keeps the rest.

mod accounting;
pub mod dead_letter;
mod decode;
mod isolate;
pub mod outcomes;
mod committed_offsets;
mod signatures;
mod store;
#[cfg(test)]
mod signature_tests;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Envelope, EventOutcome, IgnoreReason, Kind, ProcessorName, Topic};
use futures_util::FutureExt;
use metrics::{counter, gauge};
use serde::de::DeserializeOwned;

use crate::kafka::{Batch, Batches, Config, Reader, ReaderSetup, Record, TopicPartition};
use crate::pace::Pace;
use crate::postgres::{Db, Failure, Transaction};
use crate::queue::{self, NewJob, Queue, Wake};
use crate::task::Stop;
use crate::telemetry::chain;
use crate::{clock, metric};

pub use accounting::Accounting;
use accounting::HandledEvent;
use dead_letter::{Cause, FailedEvent};
use decode::{Decoded, Invalid};
use outcomes::Admission;

/// How a processor handles events.
pub trait Handler: Send + Sync + 'static {
    /// The payload of the envelopes.
    type Payload: DeserializeOwned + Send + Sync;

    const PROCESSOR: ProcessorName;
    /// The topics to read. One consumer group reads them all, and a batch may hold records of several.
    const TOPICS: &'static [Topic];
    /// The kinds of envelope that are accepted.
    const KINDS: &'static [Kind];

    /// The queue of the jobs that its events cause.
    const QUEUE: Option<Queue> = None;

    const ACCOUNTING: Accounting = Accounting::ByEvent;

    /// What becomes of a topic's records that cannot be read.
    fn unreadable(_topic: Topic) -> Unreadable {
        Unreadable::DeadLettered
    }

    /// The limits of a batch. A handler that writes files may wait for larger ones.
    fn batches(&self, kafka: &Config) -> Batches {
        kafka.batches()
    }

    /// Handles events that are new or replayed, inside the poll's transaction.
    fn handle(
        &self,
        tx: &Transaction<'_>,
        events: &[Event<'_, Self::Payload>],
    ) -> impl Future<Output = Result<Handled, Failure>> + Send;
}

/// What becomes of a record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    DeadLettered,
    /// For a processor that only counts events: the processor whose work the record is makes a dead letter of it.
    Ignored,
}

/// What a handler made of a batch.
#[derive(Debug, Default)]
pub struct Handled {
    /// One per event, in order.
    pub outcomes: Vec<EventOutcome>,
    /// Jobs to enqueue; they are enqueued last in the transaction.
    pub jobs: Vec<NewJob>,
}

impl From<Vec<EventOutcome>> for Handled {
    fn from(outcomes: Vec<EventOutcome>) -> Self {
        Handled { outcomes, jobs: Vec::new() }
    }
}

/// An event to handle.
#[derive(Debug)]
pub struct Event<'a, P> {
    pub envelope: Envelope<P>,
    /// The record it came in.
    pub record: &'a Record,
    /// [`Admission::New`] or [`Admission::Replayed`].
    pub admission: Admission,
}

/// A consumer could not start, or ended although it was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka refuses the settings.
    #[error("kafka settings are refused")]
    Refused(#[from] rdkafka::error::KafkaError),
    /// The consumer can never read again. What was committed stays; the next consumer reads on from there.
    #[error("consumer of {processor} cannot read any more")]
    Ended { processor: ProcessorName },
}

/// The shortest time between the beginnings of two batches, unless one was full.
const PERIOD: Duration = Duration::from_millis(25);

/// Runs a processor's consumer until stopped. While Postgres or Kafka is unavailable it waits.
///
/// # Errors
/// If librdkafka refuses the settings, or the consumer can never read again.
pub async fn run<I: Handler>(
    handler: I,
    db: Db,
    kafka: &Config,
    instance: &str,
    wake: Wake,
    stop: Stop,
) -> Result<(), Error> {
    let committed_offsets = Arc::new(Mutex::new(HashMap::new()));
    let reader = Reader::start(ReaderSetup {
        client: kafka.consumer(I::PROCESSOR, instance),
        topics: I::TOPICS.iter().map(|topic| (*topic, kafka.topic(*topic))).collect(),
        batches: handler.batches(kafka),
        rejoin_after: Duration::from_millis(kafka.rejoin_after_ms.into()),
        committed_offsets: store::committed_offsets(
            db.clone(),
            I::PROCESSOR,
            Arc::clone(&committed_offsets),
            stop.clone(),
        ),
    })?;
    let mut consumer = Consumer {
        handler,
        db,
        wake,
        reader,
        committed_offsets,
        stopped: Mutex::default(),
        gaps: Mutex::default(),
        attempts: kafka.record_attempts,
        dead_lettered_in_a_row: AtomicU32::new(0),
        stop: stop.clone(),
    };
    let mut pace = Pace::new(PERIOD);
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => break,
            batch = pace.until_next().then(|()| consumer.reader.next()) => batch,
        };
        if batch.as_ref().is_none_or(|it| it.len() < kafka.poll_records) {
            pace.begin();
        }
        match batch {
            Some(batch) => consumer.process_batch(batch).await,
            None if stop.is_cancelled() => break,
            None => return Err(Error::Ended { processor: I::PROCESSOR }),
        }
    }
    consumer.reader.stop().await;
    Ok(())
}

/// The committed offset of each partition, as far as this process knows.
type CommittedOffsets = Arc<Mutex<HashMap<TopicPartition, i64>>>;

struct Consumer<I: Handler> {
    handler: I,
    db: Db,
    wake: Wake,
    reader: Reader,
    committed_offsets: CommittedOffsets,
    stopped: Mutex<HashSet<TopicPartition>>,
    gaps: Mutex<HashMap<TopicPartition, i64>>,
    /// Attempts of a record that fails alone, before it becomes a dead letter.
    attempts: u32,
    /// Records that became dead letters in that way since one last succeeded.
    dead_lettered_in_a_row: AtomicU32,
    stop: Stop,
}

impl<I: Handler> Consumer<I> {
    /// Commits one batch, however long that takes; drops records only when their partitions were revoked.
    async fn process_batch(&self, mut batch: Batch) {
        let mut wait = Duration::from_millis(50);
        loop {
            self.stop_recreated_partitions(&mut batch);
            self.seek_back_over_gaps(&mut batch);
            if batch.is_empty() {
                return;
            }
            match self.commit(&batch).await {
                Ok(()) => return self.reset_dead_letter_streak(),
                Err(CommitError::OffsetsMoved(moved)) => return self.seek_to_committed(&batch, &moved),
                Err(CommitError::Postgres(failure)) if failure.blames_the_data() || failure.may_blame_a_record() => {
                    return self.isolate(batch).await;
                }
                Err(CommitError::Postgres(failure)) => {
                    tracing::warn!(processor = %I::PROCESSOR, error = chain(&failure), "batch not committed, will be retried");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
            batch.retain(|record| self.reader.still_owns(record));
        }
    }

    /// To be called after a commit of a record that did not become a dead letter.
    fn reset_dead_letter_streak(&self) {
        self.dead_lettered_in_a_row.store(0, Ordering::Relaxed);
    }

    async fn commit(&self, batch: &[Record]) -> Result<(), CommitError> {
        let began = clock::instant();
        let decoded = decode::decode::<I::Payload>(batch, I::KINDS);
        let mut client = self.db.get().await?;
        let tx = client.transaction().await.map_err(Failure::from)?;
        let next = self.move_offsets(&tx, batch).await?;
        let seen: Vec<outcomes::Incoming> = decoded.iter().map(Decoded::incoming).collect();
        let admissions = self.admit(&tx, &seen).await?;
        let mut ended = Vec::new();
        let mut events = Vec::new();
        for (decoded, admission) in decoded.into_iter().zip(&admissions) {
            match (decoded, admission) {
                (_, Admission::Duplicate) => {}
                (Decoded::Valid { envelope, record, .. }, &admission) => {
                    events.push(Event { envelope, record, admission })
                }
                (Decoded::Invalid(invalid), _) => match I::unreadable(invalid.record.topic) {
                    Unreadable::DeadLettered => {
                        self.dead_letter(&tx, &invalid).await?;
                        ended.push(HandledEvent::of(&invalid, EventOutcome::DeadLettered));
                    }
                    Unreadable::Ignored => {
                        ended.push(HandledEvent::of(&invalid, EventOutcome::Ignored(IgnoreReason::Unreadable)));
                    }
                },
            }
        }
        let repeats = signatures::remove_repeats(&tx, I::PROCESSOR, &mut events).await;
        ended.extend(repeats.map_err(Failure::from)?);
        let handled = self.handler.handle(&tx, &events).await?;
        ended.extend(events.iter().zip(handled.outcomes).map(|(it, outcome)| {
            let (company, event) = (it.envelope.company_id, it.envelope.event_id);
            HandledEvent { company, event, record: it.record, outcome }
        }));
        self.record_outcomes(&tx, &ended).await?;
        store::count(&tx, I::PROCESSOR, &seen, &admissions).await.map_err(Failure::from)?;
        if let Some(queue) = I::QUEUE {
            queue::enqueue(&tx, queue, &handled.jobs).await.map_err(Failure::from)?;
        }
        tx.commit().await.map_err(Failure::from)?;
        self.wake.enqueued(handled.jobs.iter().map(|it| it.company));
        self.cache_offsets(batch, next);
        self.report(&admissions, &ended, began.elapsed());
        Ok(())
    }

    /// Dead-letters an event that Postgres refuses, in the transaction that moves the offset past it.
    async fn commit_dead_letter(&self, record: &Record, cause: Cause) -> Result<(), CommitError> {
        let invalid = Invalid::refused(record, cause);
        let mut client = self.db.get().await?;
        let tx = client.transaction().await.map_err(Failure::from)?;
        let next = self.move_offsets(&tx, std::slice::from_ref(record)).await?;
        let seen = [invalid.incoming()];
        let admissions = self.admit(&tx, &seen).await?;
        let ended = [HandledEvent::of(&invalid, EventOutcome::DeadLettered)];
        if admissions[0] != Admission::Duplicate {
            self.dead_letter(&tx, &invalid).await?;
            self.record_outcomes(&tx, &ended).await?;
        }
        store::count(&tx, I::PROCESSOR, &seen, &admissions).await.map_err(Failure::from)?;
        tx.commit().await.map_err(Failure::from)?;
        self.cache_offsets(std::slice::from_ref(record), next);
        self.report(&admissions, &ended, Duration::ZERO);
        Ok(())
    }

    async fn dead_letter(&self, tx: &Transaction<'_>, invalid: &Invalid<'_>) -> Result<(), Failure> {
        let failed = FailedEvent {
            company: invalid.company,
            event: invalid.event,
            topic: invalid.record.topic,
            record: invalid.record,
        };
        Ok(dead_letter::add(tx, I::PROCESSOR, &failed, &invalid.cause).await?)
    }

    fn report(&self, admissions: &[Admission], ended: &[HandledEvent<'_>], took: Duration) {
        let processor = I::PROCESSOR.as_str();
        let duplicates = admissions.iter().filter(|it| **it == Admission::Duplicate).count();
        counter!(metric::CONSUMER_RECORDS, "processor" => processor, "outcome" => "duplicate")
            .increment(duplicates as u64);
        for it in ended {
            counter!(metric::CONSUMER_RECORDS, "processor" => processor, "outcome" => it.outcome.state()).increment(1);
        }
        metrics::histogram!(metric::TASK_LATENCY, "task" => format!("{processor}_consumer")).record(took.as_secs_f64());
        tracing::debug!(
            processor,
            records = admissions.len(),
            duplicates,
            duration_ms = took.as_millis() as u64,
            "batch committed"
        );
    }
}

/// Why a batch was not committed.
enum CommitError {
    /// The committed offsets are not the ones we expected; these are.
    OffsetsMoved(HashMap<TopicPartition, i64>),
    /// Postgres is unavailable, or refuses.
    Postgres(Failure),
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        CommitError::Postgres(failure)
    }
}
