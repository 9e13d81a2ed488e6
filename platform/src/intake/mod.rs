//! Intake: a topic into Postgres, exactly once.
//!
//! One poll is one transaction: what the processor makes of the events, their outcome marks, the counts and the
//! consumer's offsets, which move by compare-and-set. A record that cannot be read is parked with its cause and the
//! partition goes on; so is one that Postgres refuses, or that fails alone again and again ([`isolate`]). While Postgres is
//! away the intake waits with the batch in its hand; Kafka keeps the rest.

mod accounting;
mod isolate;
mod store;
mod sort;
mod signatures;
#[cfg(test)]
mod signature_tests;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Envelope, Kind, Mark, ProcessorName, Topic};
use futures_util::FutureExt;
use metrics::{counter, gauge};
use serde::de::DeserializeOwned;

use crate::kafka::{Batch, Batches, Config, Reader, ReaderSetup, Record, TopicPartition};
use crate::marks::Standing;
use crate::pace::Pace;
use crate::park::{self, Cause, Parcel};
use crate::postgres::{Db, Failure, Transaction};
use crate::queue::{self, NewJob, Queue, Wake};
use crate::task::Stop;
use crate::telemetry::chain;
use crate::{clock, marks, metric};

pub use accounting::Accounting;
use accounting::Ended;
use sort::{Sorted, Unfit};

/// A processor's way of taking events in.
pub trait Intake: Send + Sync + 'static {
    /// What the topics hold.
    type Payload: DeserializeOwned + Send + Sync;

    /// Who takes it in.
    const PROCESSOR: ProcessorName;
    /// From where. One group reads them all, and a batch may hold records of several.
    const TOPICS: &'static [Topic];
    /// What the envelopes may say they are.
    const KINDS: &'static [Kind];

    /// Where the jobs go that its events cause.
    const QUEUE: Option<Queue> = None;

    /// What is written down of the events read.
    const ACCOUNTING: Accounting = Accounting::ByEvent;

    /// How large a batch grows. One that is to become a file waits for more than a poll.
    fn batches(&self, kafka: &Config) -> Batches {
        kafka.batches()
    }

    /// Takes fresh events in, inside the poll's transaction.
    fn take(
        &self,
        tx: &Transaction<'_>,
        fresh: &[Fresh<'_, Self::Payload>],
    ) -> impl Future<Output = Result<Taken, Failure>> + Send;
}

/// What became of fresh events.
#[derive(Debug, Default)]
pub struct Taken {
    /// How each stands now, in order.
    pub marks: Vec<Mark>,
    /// Jobs to enqueue, which is done last in the transaction.
    pub jobs: Vec<NewJob>,
}

impl From<Vec<Mark>> for Taken {
    fn from(marks: Vec<Mark>) -> Self {
        Taken { marks, jobs: Vec::new() }
    }
}

/// An event to be handled.
#[derive(Debug)]
pub struct Fresh<'a, P> {
    /// The event.
    pub envelope: Envelope<P>,
    /// The record it came in.
    pub record: &'a Record,
    /// [`Standing::Fresh`], or [`Standing::Reopened`] when it comes back from the shelf.
    pub standing: Standing,
}

/// An intake could not begin, or ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka refuses the settings.
    #[error("kafka settings are refused")]
    Refused(#[from] rdkafka::error::KafkaError),
    /// The consumer is at its end; what was read is committed, and the rest is read by whoever comes next.
    #[error("consumer of {processor} is at its end")]
    Ended {
        /// Whose.
        processor: ProcessorName,
    },
}

/// Batches follow one another by this, unless one was full.
const PERIOD: Duration = Duration::from_millis(25);

/// Runs a processor's intake until stopped. Away Postgres or Kafka only make it wait.
///
/// # Errors
/// If librdkafka refuses the settings, or the consumer can never read again.
pub async fn run<I: Intake>(
    intake: I,
    db: Db,
    kafka: &Config,
    instance: &str,
    wake: Wake,
    stop: Stop,
) -> Result<(), Error> {
    let positions = Arc::new(Mutex::new(HashMap::new()));
    let reader = Reader::start(ReaderSetup {
        client: kafka.consumer(I::PROCESSOR, instance),
        topics: I::TOPICS.iter().map(|topic| (*topic, kafka.topic(*topic))).collect(),
        batches: intake.batches(kafka),
        positions: store::positions(db.clone(), I::PROCESSOR, Arc::clone(&positions), stop.clone()),
    })?;
    let mut station = Station {
        intake,
        db,
        wake,
        reader,
        positions,
        stopped: Mutex::default(),
        gaps: Mutex::default(),
        attempts: kafka.record_attempts,
        given_up_in_a_row: AtomicU32::new(0),
        stop: stop.clone(),
    };
    let mut pace = Pace::new(PERIOD);
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => break,
            batch = pace.gather().then(|()| station.reader.next()) => batch,
        };
        if batch.as_ref().is_none_or(|it| it.len() < kafka.poll_records) {
            pace.begin();
        }
        match batch {
            Some(batch) => station.bring_in(batch).await,
            None if stop.is_cancelled() => break,
            None => return Err(Error::Ended { processor: I::PROCESSOR }),
        }
    }
    station.reader.stop().await;
    Ok(())
}

/// Where each partition stands in Postgres, as far as this process knows.
type Positions = Arc<Mutex<HashMap<TopicPartition, i64>>>;

struct Station<I: Intake> {
    intake: I,
    db: Db,
    wake: Wake,
    reader: Reader,
    positions: Positions,
    stopped: Mutex<HashSet<TopicPartition>>,
    gaps: Mutex<HashMap<TopicPartition, i64>>,
    /// Tries of a record that fails alone, before it becomes a dead letter.
    attempts: u32,
    /// Records that became dead letters so, since one was last taken in.
    given_up_in_a_row: AtomicU32,
    stop: Stop,
}

impl<I: Intake> Station<I> {
    /// Commits one batch, however long that takes; gives it up only when its partitions are gone.
    async fn bring_in(&self, mut batch: Batch) {
        let mut wait = Duration::from_millis(50);
        loop {
            self.hold_back(&mut batch);
            self.refuse_gaps(&mut batch);
            if batch.is_empty() {
                return;
            }
            match self.commit(&batch).await {
                Ok(()) => return self.taken(),
                Err(Setback::Moved(moved)) => return self.start_over(&batch, &moved),
                Err(Setback::Failed(failure)) if failure.blames_the_data() || failure.may_blame_a_record() => {
                    return self.isolate(batch).await;
                }
                Err(Setback::Failed(failure)) => {
                    tracing::warn!(processor = %I::PROCESSOR, error = chain(&failure), "intake waits for postgres");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
            batch.retain(|record| self.reader.still_owns(record));
        }
    }

    /// After a commit that took something in.
    fn taken(&self) {
        self.given_up_in_a_row.store(0, Ordering::Relaxed);
    }

    async fn commit(&self, batch: &[Record]) -> Result<(), Setback> {
        let began = clock::instant();
        let sorted = sort::sort::<I::Payload>(batch, I::KINDS);
        let mut client = self.db.get().await?;
        let tx = client.transaction().await.map_err(Failure::from)?;
        let next = self.move_offsets(&tx, batch).await?;
        let seen: Vec<marks::Seen> = sorted.iter().map(Sorted::seen).collect();
        let standings = self.open(&tx, &seen).await?;
        let mut ended = Vec::new();
        let mut fresh = Vec::new();
        for (sorted, standing) in sorted.into_iter().zip(&standings) {
            match (sorted, standing) {
                (_, Standing::Duplicate) => {}
                (Sorted::Fit { envelope, record, .. }, &standing) => fresh.push(Fresh { envelope, record, standing }),
                (Sorted::Unfit(unfit), _) => {
                    self.park(&tx, &unfit).await?;
                    ended.push(Ended::parked(&unfit));
                }
            }
        }
        let repeats = signatures::take_out_repeats(&tx, I::PROCESSOR, &mut fresh).await;
        ended.extend(repeats.map_err(Failure::from)?);
        let taken = self.intake.take(&tx, &fresh).await?;
        ended.extend(fresh.iter().zip(taken.marks).map(|(it, mark)| {
            let (company, event) = (it.envelope.company_id, it.envelope.event_id);
            Ended { company, event, record: it.record, mark }
        }));
        self.close(&tx, &ended).await?;
        store::count(&tx, I::PROCESSOR, &seen, &standings).await.map_err(Failure::from)?;
        if let Some(queue) = I::QUEUE {
            queue::enqueue(&tx, queue, &taken.jobs).await.map_err(Failure::from)?;
        }
        tx.commit().await.map_err(Failure::from)?;
        self.wake.enqueued(taken.jobs.iter().map(|it| it.company));
        self.remember(batch, next);
        self.report(&standings, &ended, began.elapsed());
        Ok(())
    }

    /// Parks an event that Postgres refuses, in the transaction that moves past it.
    async fn commit_parked(&self, record: &Record, cause: Cause) -> Result<(), Setback> {
        let unfit = Unfit::refused(record, cause);
        let mut client = self.db.get().await?;
        let tx = client.transaction().await.map_err(Failure::from)?;
        let next = self.move_offsets(&tx, std::slice::from_ref(record)).await?;
        let seen = [unfit.seen()];
        let standings = self.open(&tx, &seen).await?;
        let ended = [Ended::parked(&unfit)];
        if standings[0] != Standing::Duplicate {
            self.park(&tx, &unfit).await?;
            self.close(&tx, &ended).await?;
        }
        store::count(&tx, I::PROCESSOR, &seen, &standings).await.map_err(Failure::from)?;
        tx.commit().await.map_err(Failure::from)?;
        self.remember(std::slice::from_ref(record), next);
        self.report(&standings, &ended, Duration::ZERO);
        Ok(())
    }

    async fn park(&self, tx: &Transaction<'_>, unfit: &Unfit<'_>) -> Result<(), Failure> {
        let parcel =
            Parcel { company: unfit.company, event: unfit.event, topic: unfit.record.topic, record: unfit.record };
        Ok(park::park(tx, I::PROCESSOR, &parcel, &unfit.cause).await?)
    }

    async fn move_offsets(
        &self,
        tx: &Transaction<'_>,
        batch: &[Record],
    ) -> Result<HashMap<TopicPartition, i64>, Setback> {
        let moves = store::moves(batch, &self.positions());
        let moved = store::move_offsets(tx, I::PROCESSOR, &moves).await.map_err(Failure::from)?;
        if moved.len() == moves.len() {
            return Ok(moved);
        }
        // Somebody else has read on, or an earlier commit of ours succeeded without our hearing of it.
        let partitions: Vec<TopicPartition> = moves.iter().map(|it| it.at).collect();
        Err(Setback::Moved(store::load(tx, I::PROCESSOR, &partitions).await.map_err(Failure::from)?))
    }

    /// Holds back what must not be taken in: records below where Postgres stands are not repeats, because reading
    /// begins there. They say that the topic was made anew under an old database. Skipping them would lose what was
    /// accepted, so that partition stops until an operator has decided.
    fn hold_back(&self, batch: &mut Batch) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = self.positions();
        let next = |record: &Record| positions.get(&record.at()).copied().unwrap_or(i64::MIN);
        for record in batch.iter() {
            let next = next(record);
            // What was read before the partition last changed hands is a repeat after all, and says nothing of the log.
            if record.offset < next && self.reader.still_owns(record) && stopped.insert(record.at()) {
                tracing::error!(
                    processor = %I::PROCESSOR, partition = %record.at(), offset = record.offset, next,
                    "partition is stopped: its log begins anew below where postgres stands; see OPERATING"
                );
            }
        }
        gauge!(metric::INTAKE_STOPPED, "processor" => I::PROCESSOR.as_str()).set(stopped.len() as f64);
        batch.retain(|record| !stopped.contains(&record.at()) && record.offset >= next(record));
    }

    /// A batch begins where Postgres stands. One that begins later is read again from there, once: offsets that hold no
    /// record are rare and harmless, and a skipped record is neither.
    fn refuse_gaps(&self, batch: &mut Batch) {
        let mut gaps = HashMap::new();
        let mut seen = HashSet::new();
        for record in batch.iter().filter(|record| seen.insert(record.at())) {
            let position = self.positions().get(&record.at()).copied();
            let mut looked_at = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(next) = position.filter(|next| record.offset > *next)
                && looked_at.insert(record.at(), next) != Some(next)
            {
                gaps.insert(record.at(), next);
            }
        }
        for (&partition, &next) in &gaps {
            tracing::warn!(processor = %I::PROCESSOR, %partition, next, "offsets are missing: the partition is read again");
            self.reader.seek(partition, next);
        }
        batch.retain(|record| !gaps.contains_key(&record.at()));
    }

    /// Nothing of these records was committed: each of their partitions is read again from where Postgres stands, or
    /// from the first of them where it does not stand anywhere yet.
    fn start_over(&self, records: &[Record], moved: &HashMap<TopicPartition, i64>) {
        let mut from = HashMap::new();
        for record in records {
            from.entry(record.at()).or_insert(record.offset);
        }
        for (partition, first) in from {
            let known = self.positions().get(&partition).copied();
            let next = moved.get(&partition).copied().or(known).unwrap_or(first);
            tracing::info!(processor = %I::PROCESSOR, %partition, next, "partition is read again from where postgres stands");
            if moved.contains_key(&partition) {
                self.positions().insert(partition, next);
            }
            self.reader.seek(partition, next);
        }
    }

    /// Notes where partitions stand after a commit. One that has changed hands since was asked for anew, and what was
    /// heard then holds: it may be older, and the next compare-and-set puts that right.
    fn remember(&self, batch: &[Record], next: HashMap<TopicPartition, i64>) {
        let ours = |at: &TopicPartition| batch.iter().any(|it| it.at() == *at && self.reader.still_owns(it));
        self.positions().extend(next.into_iter().filter(|(at, _)| ours(at)));
    }

    fn positions(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, i64>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, standings: &[Standing], ended: &[Ended<'_>], took: Duration) {
        let processor = I::PROCESSOR.as_str();
        let duplicates = standings.iter().filter(|it| **it == Standing::Duplicate).count();
        counter!(metric::INTAKE_RECORDS, "processor" => processor, "outcome" => "duplicate")
            .increment(duplicates as u64);
        for it in ended {
            counter!(metric::INTAKE_RECORDS, "processor" => processor, "outcome" => it.mark.state()).increment(1);
        }
        metrics::histogram!(metric::TASK_LATENCY, "task" => format!("{processor}_intake")).record(took.as_secs_f64());
        tracing::debug!(
            processor,
            records = standings.len(),
            duplicates,
            duration_ms = took.as_millis() as u64,
            "batch taken in"
        );
    }
}

/// Why a batch was not committed.
enum Setback {
    /// Postgres stands elsewhere than we thought; it says where.
    Moved(HashMap<TopicPartition, i64>),
    /// Postgres is away, or refuses.
    Failed(Failure),
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Setback::Failed(failure)
    }
}
