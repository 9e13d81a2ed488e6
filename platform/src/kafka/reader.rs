//! Reading: one thread polls, so a slow transaction never keeps the broker waiting, and hands batches over.
//!
//! The thread alone touches the consumer. Where to read from is not the broker's business: at assignment the thread
//! asks `positions`, which is Postgres. A batch that could not be committed there is handed back as a seek, and
//! everything read ahead of it is void: each record carries the generation of its partition.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use domain::Topic;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use tokio::sync::mpsc as async_mpsc;

use super::rebalance::{Names, Rebalancing};
use super::{Record, TopicPartition};
use crate::clock;

/// How long a full batch waits before fetching is paused. librdkafka drops what it had fetched ahead of a partition that is
/// paused, and takes up to a second to have it again, so it is not for every batch.
const PAUSED_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether a full batch can be handed over.
const LOOK: Duration = Duration::from_millis(1);

/// Records of one poll, in order per partition.
pub type Batch = Vec<Record>;

/// Where a partition is read from: Postgres's word, `None` when it has none yet.
pub type Position = Option<i64>;

/// How large a batch grows before it is handed over.
#[derive(Debug, Clone, Copy)]
pub struct Batches {
    pub records: usize,
    /// Most bytes; the record that reaches it is the last.
    pub bytes: usize,
    /// How long one that is not full waits for more records, from its first one on.
    pub wait: Duration,
}

/// A consumer to be run.
pub struct ReaderSetup<P> {
    pub client: rdkafka::ClientConfig,
    /// The topics, each with its name on the broker.
    pub topics: Vec<(Topic, String)>,
    /// How large a batch grows.
    pub batches: Batches,
    /// Says where to read each partition from; called on the polling thread, may block it.
    pub positions: P,
}

/// What the polling thread and the batches' owner share.
pub struct Reader {
    batches: async_mpsc::Receiver<Batch>,
    seek_requests: mpsc::Sender<SeekRequest>,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A partition to be read again from an offset.
#[derive(Debug, Clone, Copy)]
pub struct SeekRequest {
    at: TopicPartition,
    to: i64,
    generation: u64,
}

#[derive(Default)]
pub(super) struct Shared {
    stop: AtomicBool,
    partitions: Mutex<HashMap<TopicPartition, Generation>>,
}

/// `written` tags what is read now; only records tagged `valid` count. They differ while a seek is under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Generation {
    pub(super) written: u64,
    pub(super) valid: u64,
    /// Whether fetching is paused. Kept per stay: a partition that leaves and comes back begins resumed.
    pub(super) paused: bool,
}

impl Shared {
    pub(super) fn partitions(&self) -> MutexGuard<'_, HashMap<TopicPartition, Generation>> {
        // A panic while holding this lock leaves plain numbers behind, never a half-made state.
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Starts the polling thread.
    ///
    /// # Errors
    /// If librdkafka refuses the settings. The broker need not be there.
    pub fn start<P>(setup: ReaderSetup<P>) -> Result<Self, KafkaError>
    where
        P: Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared::default());
        let names = Names(setup.topics.into());
        let context = Rebalancing { shared: Arc::clone(&shared), names: names.clone(), positions: setup.positions };
        let consumer: BaseConsumer<Rebalancing<P>> = setup.client.create_with_context(context)?;
        consumer.subscribe(&names.0.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>())?;
        let (send, batches) = async_mpsc::channel(1);
        let (seek_requests, receive) = mpsc::channel();
        let poller = Poller {
            consumer,
            names,
            shared: Arc::clone(&shared),
            seek_requests: receive,
            batches: send,
            limits: setup.batches,
            read: Vec::new(),
            read_bytes: 0,
            read_since: None,
            full_since: None,
            pending: Vec::new(),
            fatal: Fatal::No,
        };
        let thread = std::thread::spawn(move || poller.run());
        Ok(Reader { batches, seek_requests, shared, thread: Some(thread) })
    }

    /// The next batch; `None` once stopped. Records that a seek has voided are left out.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            let mut batch = self.batches.recv().await?;
            {
                let partitions = self.shared.partitions();
                batch.retain(|record| {
                    partitions.get(&record.at()).is_some_and(|known| known.valid == record.generation)
                });
            }
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    /// Whether a partition's records read so far still count.
    pub fn still_owns(&self, record: &Record) -> bool {
        self.shared.partitions().get(&record.at()).is_some_and(|known| known.valid == record.generation)
    }

    /// Reads a partition again from an offset; what was read of it before no longer counts.
    pub fn seek(&self, at: TopicPartition, to: i64) {
        let mut partitions = self.shared.partitions();
        let Some(known) = partitions.get_mut(&at) else { return };
        known.valid += 1;
        // The thread is gone only when stopping, and then nobody reads again.
        let _ = self.seek_requests.send(SeekRequest { at, to, generation: known.valid });
    }

    /// Partitions this member holds.
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.shared.partitions().keys().copied().collect()
    }

    /// For tests: partitions that are not fetched now, because a full batch waits.
    #[cfg(test)]
    pub(crate) fn paused(&self) -> Vec<TopicPartition> {
        self.shared.partitions().iter().filter(|(_, known)| known.paused).map(|(at, _)| *at).collect()
    }

    /// For tests without a broker: as if these partitions had just been assigned to whoever holds [`Record::kept`] ones.
    #[cfg(test)]
    pub(crate) fn own(&self, partitions: &[TopicPartition]) {
        self.shared.partitions().extend(partitions.iter().map(|it| (*it, Generation::default())));
    }

    /// Asks the thread to end and waits for it to leave the broker, off the runtime.
    pub async fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.batches.close();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

struct Poller<P>
where
    P: Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static,
{
    consumer: BaseConsumer<Rebalancing<P>>,
    names: Names,
    shared: Arc<Shared>,
    seek_requests: mpsc::Receiver<SeekRequest>,
    batches: async_mpsc::Sender<Batch>,
    limits: Batches,
    read: Batch,
    read_bytes: usize,
    /// When the first of them was read.
    read_since: Option<Instant>,
    /// Since when they are a full batch that could not be handed over.
    full_since: Option<Instant>,
    pending: Vec<SeekRequest>,
    fatal: Fatal,
}

/// Whether the consumer can ever read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fatal {
    Yes,
    No,
}

impl<P> Poller<P>
where
    P: Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static,
{
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) && self.fatal == Fatal::No {
            self.take_seek_requests();
            if self.waits_shortly() {
                std::thread::sleep(LOOK);
            } else {
                self.keep_within_bounds();
                self.poll(self.idle());
                while !self.is_full() && self.poll(Duration::ZERO) {}
            }
            self.hand_over();
            self.keep_within_bounds();
        }
    }

    /// Takes one record; false when there was none.
    fn poll(&mut self, wait: Duration) -> bool {
        match self.consumer.poll(wait) {
            None => false,
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                tracing::error!(%code, "kafka consumer is at its end: another one has its group instance id, or it was refused");
                self.fatal = Fatal::Yes;
                false
            }
            Some(Err(problem)) => {
                tracing::warn!(error = %problem, "kafka consumer reports a problem");
                false
            }
            Some(Ok(message)) => {
                let Some(topic) = self.names.topic(message.topic()) else { return true };
                let at = TopicPartition { topic, partition: message.partition() };
                let generation = self.shared.partitions().get(&at).map(|it| it.written);
                let Some(generation) = generation else { return true };
                let record = Record::read(topic, &message, generation);
                self.read_since.get_or_insert_with(clock::instant);
                self.read_bytes += record.size();
                self.read.push(record);
                true
            }
        }
    }

    fn hand_over(&mut self) {
        if self.read.is_empty() || !self.due_in().is_zero() {
            return;
        }
        if let Err(async_mpsc::error::TrySendError::Full(back)) = self.batches.try_send(std::mem::take(&mut self.read))
        {
            self.read = back;
            self.full_since = self.is_full().then(|| self.full_since.unwrap_or_else(clock::instant));
        } else {
            self.read_bytes = 0;
            self.read_since = None;
            self.full_since = None;
        }
    }

    /// Whether a full batch waits, and not for so long that the group must be told that we are alive.
    fn waits_shortly(&self) -> bool {
        self.is_full() && self.full_since.is_some_and(|it| it.elapsed() < PAUSED_AFTER)
    }

    /// How long a poll may wait for a record: shortly while a batch is due to be handed over.
    fn idle(&self) -> Duration {
        let most = Duration::from_millis(100);
        if self.read.is_empty() { most } else { self.due_in().clamp(Duration::from_millis(2), most) }
    }

    /// In what time what was read is to be handed over.
    fn due_in(&self) -> Duration {
        if self.is_full() {
            return Duration::ZERO;
        }
        self.read_since.map_or(Duration::ZERO, |since| self.limits.wait.saturating_sub(since.elapsed()))
    }

    fn is_full(&self) -> bool {
        self.read.len() >= self.limits.records || self.read_bytes >= self.limits.bytes
    }

    /// Stops fetching while a full batch waits, and goes on polling so that the group stays whole.
    fn keep_within_bounds(&mut self) {
        let full = self.is_full() && !self.waits_shortly();
        // Whatever was assigned since the last look is not paused yet.
        let changed: Vec<TopicPartition> =
            self.shared.partitions().iter().filter(|(_, it)| it.paused != full).map(|(it, _)| *it).collect();
        if changed.is_empty() {
            return;
        }
        let list = self.names.list(&changed);
        let done = if full { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        match done {
            // They come and go on this thread only, while polling.
            Ok(()) => self.shared.partitions().values_mut().for_each(|it| it.paused = full),
            Err(problem) => tracing::warn!(error = %problem, "fetching was not paused or resumed"),
        }
    }

    /// Seeks. One that fails is tried again at the next round; until it succeeds, what is read does not count.
    fn take_seek_requests(&mut self) {
        self.pending.extend(self.seek_requests.try_iter());
        let mut left = Vec::new();
        for request in std::mem::take(&mut self.pending) {
            let SeekRequest { at, to, generation } = request;
            self.read.retain(|record| record.at() != at);
            self.read_bytes = self.read.iter().map(Record::size).sum();
            self.read_since = self.read_since.filter(|_| !self.read.is_empty());
            self.full_since = self.full_since.filter(|_| self.is_full());
            if self.shared.partitions().get(&at).is_none_or(|known| known.valid != generation) {
                continue; // The partition has left, or was handed back again since.
            }
            match self.consumer.seek(self.names.of(at.topic), at.partition, Offset::Offset(to), Duration::from_secs(5))
            {
                Ok(()) => {
                    if let Some(known) = self.shared.partitions().get_mut(&at) {
                        known.written = generation;
                    }
                }
                Err(problem) => {
                    tracing::debug!(partition = %at, error = %problem, "seek failed, will be tried again");
                    left.push(request);
                }
            }
        }
        self.pending = left;
    }
}
