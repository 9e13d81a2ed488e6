//! Reading: one thread polls, so that a slow transaction never delays a poll, and passes batches to the consumer.
//!
//! Only this thread uses the librdkafka client. Offsets are not committed to the broker: at assignment the thread calls
//! `committed_offsets`, which reads them from Postgres. For a batch that could not be committed the consumer requests a seek, and
//! everything read ahead of it is discarded: each record carries the generation of its partition.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use domain::Topic;
use metrics::counter;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use tokio::sync::mpsc as async_mpsc;

use super::assignment::Assignment;
use super::member::Member;
use super::rebalance::{Names, Rebalancing};
use super::{Record, TopicPartition};
use crate::{clock, metric};

/// How long a full batch waits before fetching is paused. librdkafka drops what it has prefetched of a paused partition
/// and takes up to a second to fetch it again, so fetching is not paused for every batch.
const PAUSED_AFTER: Duration = Duration::from_secs(1);
/// How often a full batch is offered to the consumer.
const FULL_BATCH_INTERVAL: Duration = Duration::from_millis(1);

/// The longest time between two replacements of a client that gets no partition.
const MAX_REJOIN_AFTER: Duration = Duration::from_secs(900);

/// Records of one poll, in order per partition.
pub type Batch = Vec<Record>;

/// The offset that a partition is read from, as stored in Postgres; `None` if there is none yet.
pub type Position = Option<i64>;

/// When a batch is passed on.
#[derive(Debug, Clone, Copy)]
pub struct Batches {
    pub records: usize,
    /// Most bytes; the record that reaches it is the last.
    pub bytes: usize,
    /// How long a batch that is not full waits for more records, counted from its first one.
    pub wait: Duration,
}

/// What a [`Reader`] needs.
pub struct ReaderSetup<P> {
    pub client: rdkafka::ClientConfig,
    /// The topics, each with its name on the broker.
    pub topics: Vec<(Topic, String)>,
    pub batches: Batches,
    /// Returns the offset to read each partition from; called on the polling thread, which it may block.
    pub committed_offsets: P,
    /// After how long without a partition the client is replaced, so that it joins its group again.
    pub rejoin_after: Duration,
}

/// The consumer's end of the polling thread.
pub struct Reader {
    batches: async_mpsc::Receiver<Batch>,
    seek_requests: mpsc::Sender<SeekRequest>,
    assignment: Arc<Assignment>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A partition to be read again from an offset.
#[derive(Debug, Clone, Copy)]
pub struct SeekRequest {
    at: TopicPartition,
    to: i64,
    generation: u64,
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
        let assignment = Arc::new(Assignment::default());
        let names = Names(setup.topics.into());
        let member = Member {
            config: setup.client,
            names: names.clone(),
            assignment: Arc::clone(&assignment),
            committed_offsets: Arc::new(setup.committed_offsets),
        };
        let consumer = member.join()?;
        let (send, batches) = async_mpsc::channel(1);
        let (seek_requests, receive) = mpsc::channel();
        let poller = Poller {
            consumer,
            member,
            names,
            assignment: Arc::clone(&assignment),
            unassigned_since: Some(clock::instant()),
            rejoin_after: setup.rejoin_after,
            next_rejoin_after: setup.rejoin_after,
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
        Ok(Reader { batches, seek_requests, assignment, thread: Some(thread) })
    }

    /// The next batch; `None` once stopped. Records that a seek or a rebalance has invalidated are left out.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            let mut batch = self.batches.recv().await?;
            {
                let partitions = self.assignment.partitions();
                batch.retain(|record| {
                    partitions.get(&record.at()).is_some_and(|known| known.valid == record.generation)
                });
            }
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    /// Whether a record still counts: its partition is assigned and was neither reassigned nor sought since it was read.
    pub fn still_owns(&self, record: &Record) -> bool {
        self.assignment.partitions().get(&record.at()).is_some_and(|known| known.valid == record.generation)
    }

    /// Reads a partition again from an offset; what was read of it before no longer counts.
    pub fn seek(&self, at: TopicPartition, to: i64) {
        let mut partitions = self.assignment.partitions();
        let Some(known) = partitions.get_mut(&at) else { return };
        known.valid += 1;
        // The thread has ended only when stopping, and then nothing is read again.
        let _ = self.seek_requests.send(SeekRequest { at, to, generation: known.valid });
    }

    /// The partitions assigned to this member.
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.assignment.partitions().keys().copied().collect()
    }

    /// For tests: partitions whose fetching is paused, because a full batch waits.
    #[cfg(test)]
    pub(crate) fn paused(&self) -> Vec<TopicPartition> {
        self.assignment.partitions().iter().filter(|(_, known)| known.paused).map(|(at, _)| *at).collect()
    }

    /// For tests: how often a new client has joined the group.
    #[cfg(test)]
    pub(crate) fn rejoined(&self) -> u64 {
        self.assignment.rejoined.load(Ordering::Relaxed)
    }

    /// For tests without a broker: assigns these partitions, with the generation of [`Record::kept`] ones.
    #[cfg(test)]
    pub(crate) fn own(&self, partitions: &[TopicPartition]) {
        self.assignment
            .partitions()
            .extend(partitions.iter().map(|it| (*it, super::assignment::Generation::default())));
    }

    /// Stops the thread and waits, off the runtime, until its client is closed. The broker keeps the partitions for this
    /// static member until its session times out.
    pub async fn stop(mut self) {
        self.assignment.stop.store(true, Ordering::Relaxed);
        self.batches.close();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.assignment.stop.store(true, Ordering::Relaxed);
    }
}

struct Poller<P>
where
    P: Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static,
{
    consumer: BaseConsumer<Rebalancing<P>>,
    member: Member<P>,
    names: Names,
    assignment: Arc<Assignment>,
    /// Since when this member has no partition.
    unassigned_since: Option<Instant>,
    /// How long it may have none.
    rejoin_after: Duration,
    /// The same, doubled with each replacement until a partition is assigned: it may be a spare member.
    next_rejoin_after: Duration,
    seek_requests: mpsc::Receiver<SeekRequest>,
    batches: async_mpsc::Sender<Batch>,
    limits: Batches,
    read: Batch,
    read_bytes: usize,
    /// When the first record of `read` was read.
    read_since: Option<Instant>,
    /// Since when `read` is a full batch that could not be passed on.
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
        while !self.assignment.stop.load(Ordering::Relaxed) && self.fatal == Fatal::No {
            self.take_seek_requests();
            if self.waits_shortly() {
                std::thread::sleep(FULL_BATCH_INTERVAL);
            } else {
                self.pause_or_resume();
                self.poll(self.idle());
                while !self.is_full() && self.poll(Duration::ZERO) {}
            }
            self.pass_on();
            self.pause_or_resume();
            self.rejoin_if_unassigned();
        }
    }

    /// A static member whose session timed out can stay outside its group for ever, without an error
    /// (confluentinc/librdkafka issue 3437). Nothing shows it but that no partition is assigned.
    fn rejoin_if_unassigned(&mut self) {
        if !self.assignment.partitions().is_empty() {
            self.unassigned_since = None;
            self.next_rejoin_after = self.rejoin_after;
            return;
        }
        let since = *self.unassigned_since.get_or_insert_with(clock::instant);
        if since.elapsed() < self.next_rejoin_after {
            return;
        }
        match self.member.join() {
            Ok(new) => {
                let old = std::mem::replace(&mut self.consumer, new);
                old.context().replaced.store(true, Ordering::Relaxed);
                // Closing waits for rebalances under way.
                std::thread::spawn(move || drop(old));
                self.assignment.rejoined.fetch_add(1, Ordering::Relaxed);
                counter!(metric::CONSUMERS_REJOINED).increment(1);
                tracing::warn!(
                    waited_s = self.next_rejoin_after.as_secs(),
                    "no partition was assigned: the consumer joins its group again"
                );
            }
            Err(problem) => tracing::warn!(error = %problem, "a new kafka consumer was refused"),
        }
        self.unassigned_since = None;
        self.next_rejoin_after = (self.next_rejoin_after * 2).min(MAX_REJOIN_AFTER);
    }

    /// Polls one record; false when there was none.
    fn poll(&mut self, wait: Duration) -> bool {
        match self.consumer.poll(wait) {
            None => false,
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                tracing::error!(%code, "kafka consumer cannot read any more: fenced by another member with its group instance id, or refused by the broker");
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
                let generation = self.assignment.partitions().get(&at).map(|it| it.written);
                let Some(generation) = generation else { return true };
                let record = Record::read(topic, &message, generation);
                self.read_since.get_or_insert_with(clock::instant);
                self.read_bytes += record.size();
                self.read.push(record);
                true
            }
        }
    }

    fn pass_on(&mut self) {
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

    /// Whether a full batch waits, but not yet so long that the thread must poll to stay in the group.
    fn waits_shortly(&self) -> bool {
        self.is_full() && self.full_since.is_some_and(|it| it.elapsed() < PAUSED_AFTER)
    }

    /// How long a poll may wait for a record: shortly while a batch is due to be handed over.
    fn idle(&self) -> Duration {
        let most = Duration::from_millis(100);
        if self.read.is_empty() { most } else { self.due_in().clamp(Duration::from_millis(2), most) }
    }

    /// How long until `read` is due to be passed on.
    fn due_in(&self) -> Duration {
        if self.is_full() {
            return Duration::ZERO;
        }
        self.read_since.map_or(Duration::ZERO, |since| self.limits.wait.saturating_sub(since.elapsed()))
    }

    fn is_full(&self) -> bool {
        self.read.len() >= self.limits.records || self.read_bytes >= self.limits.bytes
    }

    /// Pauses fetching while a full batch waits; polling goes on, so that this member stays in the group.
    fn pause_or_resume(&mut self) {
        let full = self.is_full() && !self.waits_shortly();
        // Partitions that were assigned since the last call are not paused yet.
        let changed: Vec<TopicPartition> =
            self.assignment.partitions().iter().filter(|(_, it)| it.paused != full).map(|(it, _)| *it).collect();
        if changed.is_empty() {
            return;
        }
        let list = self.names.list(&changed);
        let done = if full { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        match done {
            // Partitions are assigned and revoked on this thread only, while polling.
            Ok(()) => self.assignment.partitions().values_mut().for_each(|it| it.paused = full),
            Err(problem) => tracing::warn!(error = %problem, "fetching was not paused or resumed"),
        }
    }

    /// Seeks. One that fails is retried in the next round; until it succeeds, what is read does not count.
    fn take_seek_requests(&mut self) {
        self.pending.extend(self.seek_requests.try_iter());
        let mut left = Vec::new();
        for request in std::mem::take(&mut self.pending) {
            let SeekRequest { at, to, generation } = request;
            self.read.retain(|record| record.at() != at);
            self.read_bytes = self.read.iter().map(Record::size).sum();
            self.read_since = self.read_since.filter(|_| !self.read.is_empty());
            self.full_since = self.full_since.filter(|_| self.is_full());
            if self.assignment.partitions().get(&at).is_none_or(|known| known.valid != generation) {
                continue; // The partition was revoked, or a later seek was requested.
            }
            match self.consumer.seek(self.names.of(at.topic), at.partition, Offset::Offset(to), Duration::from_secs(5))
            {
                Ok(()) => {
                    if let Some(known) = self.assignment.partitions().get_mut(&at) {
                        known.written = generation;
                    }
                }
                Err(problem) => {
                    tracing::debug!(partition = %at, error = %problem, "seek failed, will be retried");
                    left.push(request);
                }
            }
        }
        self.pending = left;
    }
}
