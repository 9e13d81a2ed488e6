//! Records on their way to librdkafka, gathered for as long as this process is busy with others.
//!
//! A produce request carries the records of one partition, and costs the broker and us many times what one more record
//! in it does. Waiting a fixed time for more (lingering) fills requests under load and is lost time without it. So a
//! group is held while other tasks are ready to run, which is where more records come from, and handed over the moment
//! nothing came meanwhile. [`AT_MOST`] and [`GROUP`] bound it.
//!
//! A client with a fatal error (its sequence numbers no longer fit the broker's, after an election that lost records) takes
//! nothing any more, and librdkafka never mends it. It is replaced by a new one, at most once in [`BETWEEN_CLIENTS`].
//! Records that waited then are refused, so that none goes out before one that failed with the old client.

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

/// Longest that a record is held back for others to come.
const AT_MOST: Duration = Duration::from_millis(10);
/// Most records held back together.
const GROUP: usize = 512;
/// Shortest time from one client to the next, for when the reason lasts.
const BETWEEN_CLIENTS: Duration = Duration::from_secs(1);

/// Who waits for the broker's word.
type Waiting = Box<oneshot::Sender<Result<(), NotDurable>>>;

/// What a producer was given.
pub(super) enum Held {
    /// A record to publish.
    Record { topic: Topic, partition: i32, key: Vec<u8>, payload: Vec<u8>, headers: OwnedHeaders, acknowledge: Waiting },
    /// Somebody who waits until everything before this has been confirmed or has failed.
    Flush { timeout: Duration, say: oneshot::Sender<Result<(), NotDurable>> },
    /// A health check: asks the broker through the client that serves.
    Ping { timeout: Duration, say: oneshot::Sender<Result<(), NotDurable>> },
}

/// Passes the broker's word on to whoever waits for it.
struct Acknowledge {
    /// Told of a fatal error.
    fatal: Arc<Notify>,
}

impl ClientContext for Acknowledge {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fatal.notify_one();
        }
        tracing::warn!(error = chain(&error), reason, "kafka producer reports a problem");
    }
}

impl ProducerContext for Acknowledge {
    type DeliveryOpaque = Waiting;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Waiting) {
        let said = result.as_ref().map(|_| ()).map_err(|(error, _)| NotDurable::Unconfirmed(error.clone()));
        // Nobody may wait any more; the record is where it is all the same.
        let _ = waiting.send(said);
    }
}

type Client = ThreadedProducer<Acknowledge>;

/// The client that serves, and what it takes to make the next one.
pub(super) struct Serving {
    client: Client,
    since: Instant,
    config: ClientConfig,
    topics: [String; Topic::ALL.len()],
    fatal: Arc<Notify>,
}

impl Serving {
    /// # Errors
    /// If librdkafka refuses the settings.
    pub(super) fn start(config: ClientConfig, topics: [String; Topic::ALL.len()]) -> Result<Self, KafkaError> {
        let fatal = Arc::new(Notify::new());
        let client = config.create_with_context(Acknowledge { fatal: Arc::clone(&fatal) })?;
        Ok(Serving { client, since: clock::instant(), config, topics, fatal })
    }

    /// Hands groups over until nobody can hold records any more.
    pub(super) async fn hand_over(mut self, mut held: mpsc::Receiver<Held>) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                taken = held.recv_many(&mut group, GROUP) => if taken == 0 { return },
                () = self.fatal.notified() => {} // Replaced now, so that the next record finds a client that takes it.
            }
            let began = clock::instant();
            let mut before = 0;
            while group.len() > before && group.len() < GROUP && began.elapsed() < AT_MOST {
                before = group.len();
                tokio::task::yield_now().await;
                while group.len() < GROUP
                    && let Ok(next) = held.try_recv()
                {
                    group.push(next);
                }
            }
            if let Some((code, reason)) = self.client.client().fatal_error() {
                self.replace(code, &reason).await;
                while let Ok(next) = held.try_recv() {
                    group.push(next);
                }
                group = group.drain(..).filter_map(|it| it.refused(code)).collect();
            }
            group.sort_by_key(Held::partition); // Stable: the order within a partition holds.
            for held in group.drain(..) {
                held.hand_to(&self.client, &self.topics);
            }
        }
    }

    async fn replace(&mut self, code: RDKafkaErrorCode, reason: &str) {
        tokio::time::sleep(BETWEEN_CLIENTS.saturating_sub(self.since.elapsed())).await;
        self.since = clock::instant();
        match self.config.create_with_context(Acknowledge { fatal: Arc::clone(&self.fatal) }) {
            Ok(client) => {
                tracing::error!(%code, reason, "kafka producer had a fatal error and was replaced by a new one");
                counter!(metric::PRODUCERS_REPLACED).increment(1);
                let old = std::mem::replace(&mut self.client, client);
                // It tells whoever still waits that their records are not confirmed, and waits for its threads.
                tokio::task::spawn_blocking(move || drop(old));
            }
            Err(problem) => {
                tracing::error!(%code, reason, error = chain(&problem), "kafka producer has a fatal error and cannot be replaced");
                self.fatal.notify_one();
            }
        }
    }
}

impl Held {
    fn partition(&self) -> i32 {
        match self {
            Held::Record { partition, .. } => *partition,
            Held::Flush { .. } | Held::Ping { .. } => i32::MAX,
        }
    }

    /// Refuses a record; what else was held goes to the client that serves now.
    fn refused(self, code: RDKafkaErrorCode) -> Option<Self> {
        let Held::Record { acknowledge, .. } = self else { return Some(self) };
        let _ = acknowledge.send(Err(NotDurable::Unconfirmed(KafkaError::MessageProduction(code))));
        None
    }

    fn hand_to(self, client: &Client, topics: &[String]) {
        match self {
            Held::Record { topic, partition, key, payload, headers, acknowledge } => {
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
            Held::Flush { timeout, say } => {
                let client = client.clone();
                tokio::task::spawn_blocking(move || {
                    let _ = say.send(client.flush(timeout).map_err(NotDurable::Unconfirmed));
                });
            }
            Held::Ping { timeout, say } => {
                let (client, topic) = (client.clone(), topics[0].clone());
                tokio::task::spawn_blocking(move || {
                    let answer = client.client().fetch_metadata(Some(&topic), timeout);
                    let _ = say.send(answer.map(drop).map_err(NotDurable::Unconfirmed));
                });
            }
        }
    }
}
