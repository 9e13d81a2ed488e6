//! Groups records before they are passed to librdkafka, for as long as other tasks keep adding records.
//!
//! A produce request carries the records of one partition, and costs the broker and us many times what one more record
//! in it does. Waiting a fixed time for more (lingering) fills requests under load, and is wasted time without load. So
//! a group waits while other tasks are ready to run, which may add records, and is passed on as soon as none was
//! added meanwhile. [`MAX_DELAY`] and [`MAX_GROUP`] bound it.
//!
//! A client with a fatal error (its sequence numbers no longer match the broker's, after an election that lost records)
//! accepts no more records, and librdkafka never repairs it. It is replaced by a new one, at most once in
//! [`REPLACEMENT_PERIOD`]. Records that wait at that moment are refused, so that none is published before an earlier one that
//! failed with the old client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Topic;
use metrics::counter;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::{Notify, mpsc, oneshot};

use super::NotDurable;
use crate::telemetry::chain;
use crate::{clock, metric};

/// The longest that a record waits for others.
const MAX_DELAY: Duration = Duration::from_millis(10);
/// The most records that wait at once.
const MAX_GROUP: usize = 512;
/// The shortest time between two replacements, in case the cause persists.
const REPLACEMENT_PERIOD: Duration = Duration::from_secs(1);

/// Receives the broker's acknowledgement.
type Acknowledgement = Box<oneshot::Sender<Result<(), NotDurable>>>;

/// What a [`super::Producer`] asks of its client.
pub(super) enum Command {
    /// A record to publish.
    Record {
        topic: Topic,
        partition: i32,
        key: Vec<u8>,
        payload: Vec<u8>,
        headers: OwnedHeaders,
        acknowledge: Acknowledgement,
    },
    /// Waits until every record before it has been confirmed or has failed.
    Flush { timeout: Duration, result: oneshot::Sender<Result<(), NotDurable>> },
    /// A health check: queries the broker through the current client.
    Ping { timeout: Duration, result: oneshot::Sender<Result<(), NotDurable>> },
}

/// Passes acknowledgements on to the callers that wait for them.
struct Callbacks {
    /// Notified of a fatal error.
    fatal: Arc<Notify>,
}

impl ClientContext for Callbacks {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fatal.notify_one();
        }
        tracing::warn!(error = chain(&error), reason, "kafka producer reports a problem");
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = Acknowledgement;

    fn delivery(&self, result: &DeliveryResult<'_>, acknowledgement: Acknowledgement) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| NotDurable::Unconfirmed(error.clone()));
        // The caller may no longer wait; the record is published all the same.
        let _ = acknowledgement.send(result);
    }
}

type Client = ThreadedProducer<Callbacks>;

/// The current client, and what is needed to replace it.
pub(super) struct ReplaceableClient {
    client: Client,
    since: Instant,
    config: ClientConfig,
    topics: [String; Topic::ALL.len()],
    fatal: Arc<Notify>,
}

impl ReplaceableClient {
    /// # Errors
    /// If librdkafka refuses the settings.
    pub(super) fn start(config: ClientConfig, topics: [String; Topic::ALL.len()]) -> Result<Self, KafkaError> {
        let fatal = Arc::new(Notify::new());
        let client = config.create_with_context(Callbacks { fatal: Arc::clone(&fatal) })?;
        Ok(ReplaceableClient { client, since: clock::instant(), config, topics, fatal })
    }

    /// Passes groups to the client until all producers are dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut group = Vec::with_capacity(MAX_GROUP);
        loop {
            tokio::select! {
                received = commands.recv_many(&mut group, MAX_GROUP) => if received == 0 { return },
                () = self.fatal.notified() => {} // Replaced now, so that the next record gets a working client.
            }
            let began = clock::instant();
            let mut before = 0;
            while group.len() > before && group.len() < MAX_GROUP && began.elapsed() < MAX_DELAY {
                before = group.len();
                tokio::task::yield_now().await;
                while group.len() < MAX_GROUP
                    && let Ok(next) = commands.try_recv()
                {
                    group.push(next);
                }
            }
            if let Some((code, reason)) = self.client.client().fatal_error() {
                self.replace(code, &reason).await;
                while let Ok(next) = commands.try_recv() {
                    group.push(next);
                }
                group = group.drain(..).filter_map(|it| it.refused(code)).collect();
            }
            group.sort_by_key(Command::partition); // Stable: the order within a partition holds.
            for command in group.drain(..) {
                command.send_to(&self.client, &self.topics);
            }
        }
    }

    async fn replace(&mut self, code: RDKafkaErrorCode, reason: &str) {
        tokio::time::sleep(REPLACEMENT_PERIOD.saturating_sub(self.since.elapsed())).await;
        self.since = clock::instant();
        match self.config.create_with_context(Callbacks { fatal: Arc::clone(&self.fatal) }) {
            Ok(client) => {
                tracing::error!(%code, reason, "kafka producer had a fatal error and was replaced by a new one");
                counter!(metric::PRODUCERS_REPLACED).increment(1);
                let old = std::mem::replace(&mut self.client, client);
                // Dropping it reports the unconfirmed records to their callers and waits for its threads.
                tokio::task::spawn_blocking(move || drop(old));
            }
            Err(problem) => {
                tracing::error!(%code, reason, error = chain(&problem), "kafka producer has a fatal error and cannot be replaced");
                self.fatal.notify_one();
            }
        }
    }
}

impl Command {
    fn partition(&self) -> i32 {
        match self {
            Command::Record { partition, .. } => *partition,
            Command::Flush { .. } | Command::Ping { .. } => i32::MAX,
        }
    }

    /// Refuses a record; other commands go on to the new client.
    fn refused(self, code: RDKafkaErrorCode) -> Option<Self> {
        let Command::Record { acknowledge, .. } = self else { return Some(self) };
        let _ = acknowledge.send(Err(NotDurable::Unconfirmed(KafkaError::MessageProduction(code))));
        None
    }

    fn send_to(self, client: &Client, topics: &[String]) {
        match self {
            Command::Record { topic, partition, key, payload, headers, acknowledge } => {
                let record = BaseRecord::with_opaque_to(&topics[topic as usize], acknowledge)
                    .partition(partition)
                    .key(&key)
                    .payload(&payload)
                    .headers(headers);
                if let Err((error, refused)) = client.send(record) {
                    let _ = refused.delivery_opaque.send(Err(match error {
                        KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => NotDurable::QueueFull,
                        error => NotDurable::Unconfirmed(error),
                    }));
                }
            }
            Command::Flush { timeout, result } => {
                let client = client.clone();
                tokio::task::spawn_blocking(move || {
                    let _ = result.send(client.flush(timeout).map_err(NotDurable::Unconfirmed));
                });
            }
            Command::Ping { timeout, result } => {
                let (client, topic) = (client.clone(), topics[0].clone());
                tokio::task::spawn_blocking(move || {
                    let metadata = client.client().fetch_metadata(Some(&topic), timeout);
                    let _ = result.send(metadata.map(drop).map_err(NotDurable::Unconfirmed));
                });
            }
        }
    }
}
