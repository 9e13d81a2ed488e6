//! Reading: one thread polls, so a slow transaction never keeps the broker waiting, and hands batches over.
//!
//! The thread alone touches the consumer. Where to read from is not the broker's business: at assignment the thread
//! asks `positions`, which is Postgres. A batch that could not be committed there is handed back as a seek, and
//! everything read ahead of it is void: each record carries the generation of its partition.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tokio::sync::mpsc as async_mpsc;

/// A record as it lay on the topic.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key's bytes.
    pub key: Option<Vec<u8>>,
    /// Its value's bytes.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    generation: u64,
}

impl Record {
    /// A record that is no longer on its way in: kept beside its work, to be parked with it if need be.
    pub fn kept(
        partition: i32,
        offset: i64,
        key: Option<Vec<u8>>,
        payload: Option<Vec<u8>>,
        headers: Vec<(String, Vec<u8>)>,
    ) -> Self {
        Record { partition, offset, key, payload, headers, generation: 0 }
    }

    /// A header's bytes, the first of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    /// A header's text, if it is text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }
}

/// Records of one poll, in order per partition.
pub type Batch = Vec<Record>;

/// Where a partition is read from: Postgres's word, `None` when it has none yet.
pub type Position = Option<i64>;

/// A consumer to be run.
pub struct ReaderSetup<P> {
    /// The consumer's settings.
    pub client: rdkafka::ClientConfig,
    /// The topic's name on the broker.
    pub topic: String,
    /// Most records of one batch.
    pub batch_records: usize,
    /// Says where to read each partition from; called on the polling thread, may block it.
    pub positions: P,
}

/// What the polling thread and the batches' owner share.
pub struct Reader {
    batches: async_mpsc::Receiver<Batch>,
    handbacks: mpsc::Sender<Handback>,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A partition to be read again from an offset.
#[derive(Debug, Clone, Copy)]
pub struct Handback {
    partition: i32,
    to: i64,
    generation: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    partitions: Mutex<HashMap<i32, Generation>>,
}

/// `written` tags what is read now; only records tagged `valid` count. They differ while a seek is under way.
#[derive(Debug, Clone, Copy, Default)]
struct Generation {
    written: u64,
    valid: u64,
    /// Whether fetching is paused. Kept per stay: a partition that leaves and comes back begins resumed.
    paused: bool,
}

impl Shared {
    fn partitions(&self) -> MutexGuard<'_, HashMap<i32, Generation>> {
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
        P: Fn(&[i32]) -> HashMap<i32, i64> + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared::default());
        let context =
            Rebalancing { shared: Arc::clone(&shared), topic: setup.topic.clone(), positions: setup.positions };
        let consumer: BaseConsumer<Rebalancing<P>> = setup.client.create_with_context(context)?;
        consumer.subscribe(&[&setup.topic])?;
        let (send, batches) = async_mpsc::channel(1);
        let (handbacks, receive) = mpsc::channel();
        let poller = Poller {
            consumer,
            topic: setup.topic,
            shared: Arc::clone(&shared),
            handbacks: receive,
            batches: send,
            batch_records: setup.batch_records,
            read: Vec::new(),
            pending: Vec::new(),
            fatal: Fatal::No,
        };
        let thread = std::thread::spawn(move || poller.run());
        Ok(Reader { batches, handbacks, shared, thread: Some(thread) })
    }

    /// The next batch; `None` once stopped. Records that a seek has voided are left out.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            let mut batch = self.batches.recv().await?;
            {
                let partitions = self.shared.partitions();
                batch.retain(|record| {
                    partitions.get(&record.partition).is_some_and(|known| known.valid == record.generation)
                });
            }
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    /// Whether a partition's records read so far still count.
    pub fn still_owns(&self, record: &Record) -> bool {
        self.shared.partitions().get(&record.partition).is_some_and(|known| known.valid == record.generation)
    }

    /// Reads a partition again from an offset; what was read of it before no longer counts.
    pub fn seek(&self, partition: i32, to: i64) {
        let mut partitions = self.shared.partitions();
        let Some(known) = partitions.get_mut(&partition) else { return };
        known.valid += 1;
        // The thread is gone only when stopping, and then nobody reads again.
        let _ = self.handbacks.send(Handback { partition, to, generation: known.valid });
    }

    /// Partitions this member holds.
    pub fn assigned(&self) -> Vec<i32> {
        self.shared.partitions().keys().copied().collect()
    }

    /// For tests: partitions that are not fetched now, because a full batch waits.
    #[cfg(test)]
    pub(crate) fn paused(&self) -> Vec<i32> {
        self.shared.partitions().iter().filter(|(_, known)| known.paused).map(|(partition, _)| *partition).collect()
    }

    /// For tests without a broker: as if these partitions had just been assigned to whoever holds [`Record::kept`] ones.
    #[cfg(test)]
    pub(crate) fn own(&self, partitions: &[i32]) {
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
    P: Fn(&[i32]) -> HashMap<i32, i64> + Send + Sync + 'static,
{
    consumer: BaseConsumer<Rebalancing<P>>,
    topic: String,
    shared: Arc<Shared>,
    handbacks: mpsc::Receiver<Handback>,
    batches: async_mpsc::Sender<Batch>,
    batch_records: usize,
    read: Batch,
    pending: Vec<Handback>,
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
    P: Fn(&[i32]) -> HashMap<i32, i64> + Send + Sync + 'static,
{
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) && self.fatal == Fatal::No {
            self.take_handbacks();
            // A short wait while a batch is due to be handed over, a longer one while there is nothing to do.
            let wait = if self.read.is_empty() { 100 } else { 2 };
            self.poll(Duration::from_millis(wait));
            while self.read.len() < self.batch_records && self.poll(Duration::ZERO) {}
            self.hand_over();
            self.keep_within_bounds();
        }
    }

    /// Takes one record; false when there was none.
    fn poll(&mut self, wait: Duration) -> bool {
        match self.consumer.poll(wait) {
            None => false,
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                tracing::error!(topic = self.topic, %code, "kafka consumer is at its end: another one has its group instance id, or it was refused");
                self.fatal = Fatal::Yes;
                false
            }
            Some(Err(problem)) => {
                tracing::warn!(topic = self.topic, error = %problem, "kafka consumer reports a problem");
                false
            }
            Some(Ok(message)) => {
                let generation = self.shared.partitions().get(&message.partition()).map(|it| it.written);
                let Some(generation) = generation else { return true };
                self.read.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    payload: message.payload().map(<[u8]>::to_vec),
                    headers: message.headers().map(owned).unwrap_or_default(),
                    generation,
                });
                true
            }
        }
    }

    fn hand_over(&mut self) {
        if self.read.is_empty() {
            return;
        }
        if let Err(async_mpsc::error::TrySendError::Full(back)) = self.batches.try_send(std::mem::take(&mut self.read))
        {
            self.read = back;
        }
    }

    /// Stops fetching while a full batch waits, and goes on polling so that the group stays whole.
    fn keep_within_bounds(&mut self) {
        let full = self.read.len() >= self.batch_records;
        // Whatever was assigned since the last look is not paused yet.
        let changed: Vec<i32> =
            self.shared.partitions().iter().filter(|(_, it)| it.paused != full).map(|(it, _)| *it).collect();
        if changed.is_empty() {
            return;
        }
        let list = partitions_of(&self.topic, &changed);
        let done = if full { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        match done {
            // They come and go on this thread only, while polling.
            Ok(()) => self.shared.partitions().values_mut().for_each(|it| it.paused = full),
            Err(problem) => tracing::warn!(topic = self.topic, error = %problem, "fetching was not paused or resumed"),
        }
    }

    /// Seeks. One that fails is tried again at the next round; until it succeeds, what is read does not count.
    fn take_handbacks(&mut self) {
        self.pending.extend(self.handbacks.try_iter());
        let mut left = Vec::new();
        for handback in std::mem::take(&mut self.pending) {
            let Handback { partition, to, generation } = handback;
            self.read.retain(|record| record.partition != partition);
            if self.shared.partitions().get(&partition).is_none_or(|known| known.valid != generation) {
                continue; // The partition has left, or was handed back again since.
            }
            match self.consumer.seek(&self.topic, partition, Offset::Offset(to), Duration::from_secs(5)) {
                Ok(()) => {
                    if let Some(known) = self.shared.partitions().get_mut(&partition) {
                        known.written = generation;
                    }
                }
                Err(problem) => {
                    tracing::debug!(topic = self.topic, partition, error = %problem, "seek failed, will be tried again");
                    left.push(handback);
                }
            }
        }
        self.pending = left;
    }
}

fn owned(headers: &rdkafka::message::BorrowedHeaders) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
}

fn partitions_of(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

struct Rebalancing<P> {
    shared: Arc<Shared>,
    topic: String,
    positions: P,
}

impl<P: Send + Sync + 'static> ClientContext for Rebalancing<P> {
    // The default logs every statistics document whole.
    fn stats(&self, _: Statistics) {}
}

impl<P> ConsumerContext for Rebalancing<P>
where
    P: Fn(&[i32]) -> HashMap<i32, i64> + Send + Sync + 'static,
{
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let done = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, &partitions)
        } else {
            let mut known = self.shared.partitions();
            known.retain(|partition, _| !partitions.contains(partition));
            drop(known);
            consumer.incremental_unassign(list)
        };
        match done {
            Ok(()) => tracing::debug!(topic = self.topic, ?partitions, ?event, "partitions changed hands"),
            Err(problem) => tracing::error!(topic = self.topic, error = %problem, "rebalance failed"),
        }
    }
}

impl<P> Rebalancing<P>
where
    P: Fn(&[i32]) -> HashMap<i32, i64> + Send + Sync + 'static,
{
    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Result<(), KafkaError> {
        let positions = (self.positions)(partitions);
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let from = match positions.get(partition) {
                Some(next) if !self.ends_before(consumer, *partition, *next) => Offset::Offset(*next),
                Some(_) | None => Offset::Beginning,
            };
            list.add_partition_offset(&self.topic, *partition, from)?;
        }
        let mut known = self.shared.partitions();
        for partition in partitions {
            // Above any number used before, so that what is still queued from an earlier stay does not count.
            let next = stamp();
            known.insert(*partition, Generation { written: next, valid: next, paused: false });
        }
        drop(known);
        // librdkafka keeps the pause of a partition that was revoked while paused.
        consumer.resume(&partitions_of(&self.topic, partitions))?;
        consumer.incremental_assign(&list)
    }
}

impl<P: Send + Sync + 'static> Rebalancing<P> {
    /// Whether the log is shorter than what was read of it: then it is another log, and is shown from its beginning to
    /// whoever knows what was read. A broker that does not say is believed to hold the old one.
    fn ends_before(&self, consumer: &BaseConsumer<Self>, partition: i32, next: i64) -> bool
    where
        Self: ConsumerContext,
    {
        let asked = consumer.fetch_watermarks(&self.topic, partition, Duration::from_secs(1));
        asked.is_ok_and(|(_, end)| end < next)
    }
}

/// Numbers that only grow, within this process.
fn stamp() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1 << 20, Ordering::Relaxed)
}
