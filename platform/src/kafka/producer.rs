//! Publishing: a record counts as durable only once every in-sync replica has it.

use std::time::Duration;

use domain::Topic;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Config;
use super::batcher::{Command, ReplaceableClient};
use crate::task;

/// A producer with `acks=all` and idempotence. Cheap to clone. Outlives a fatal error of the client inside it.
#[derive(Clone)]
pub struct Producer(mpsc::Sender<Command>);

/// A header to write: its name and its bytes.
pub type Header<'a> = (&'a str, &'a [u8]);

/// One record to publish. Its key and value are moved, never copied.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub topic: Topic,
    /// The partition, chosen by [`domain::placement`].
    pub partition: i32,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    /// Its headers, in order.
    pub headers: &'a [Header<'a>],
}

/// It is unknown whether the record is on the broker: there was no acknowledgement in time. The same record may be sent
/// again.
#[derive(Debug, thiserror::Error)]
pub enum NotDurable {
    /// The producer's queue is full: the broker is unavailable or too slow.
    #[error("producer queue is full")]
    QueueFull,
    /// The broker did not confirm in time, or refused.
    #[error("broker did not confirm the record")]
    Unconfirmed(#[source] KafkaError),
    /// The producer is shutting down.
    #[error("producer is closed")]
    Closed,
}

impl NotDurable {
    /// Whether the record is too large for the broker, so that a retry cannot help.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            NotDurable::Unconfirmed(KafkaError::MessageProduction(
                RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize
            ))
        )
    }

    /// A stable name for counters.
    pub fn class(&self) -> &'static str {
        match self {
            NotDurable::QueueFull => "queue_full",
            NotDurable::Unconfirmed(_) => "unconfirmed",
            NotDurable::Closed => "closed",
        }
    }
}

impl Producer {
    /// A producer for webhooks: fails within `kafka.message_timeout_ms`, so that the caller gets an error in time.
    ///
    /// # Errors
    /// If librdkafka refuses the settings. The broker need not be there.
    pub fn with_short_timeout(config: &Config, id: &str) -> Result<Self, KafkaError> {
        Self::new(config, id, config.message_timeout_ms)
    }

    /// A producer for the outbox: retries a record for five minutes, so that the order is kept while the broker is
    /// unavailable.
    ///
    /// # Errors
    /// If librdkafka refuses the settings. The broker need not be there.
    pub fn with_retries(config: &Config, id: &str) -> Result<Self, KafkaError> {
        Self::new(config, id, 300_000)
    }

    fn new(config: &Config, id: &str, timeout_ms: u32) -> Result<Self, KafkaError> {
        let mut client = config.client(id);
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // While two requests are in flight the next records are grouped: fewer and larger requests than with five.
            .set("max.in.flight.requests.per.connection", "2")
            .set("linger.ms", config.linger_ms.to_string())
            .set("message.timeout.ms", timeout_ms.to_string())
            .set("request.timeout.ms", timeout_ms.min(10_000).to_string())
            .set("queue.buffering.max.messages", config.queue_records.to_string())
            .set("queue.buffering.max.kbytes", "262144")
            .set("allow.auto.create.topics", "false");
        let client = ReplaceableClient::start(client, Topic::ALL.map(|topic| config.topic(topic)))?;
        let (send, commands) = mpsc::channel(config.queue_records as usize);
        task::spawn("producer", client.run(commands));
        Ok(Producer(send))
    }

    /// Queues the record at once and returns a future that resolves at the broker's acknowledgement.
    ///
    /// Records queued one after another are on their partition in that order. Dropping the returned future does not cancel
    /// the record.
    pub fn publish(&self, record: Outgoing<'_>) -> impl Future<Output = Result<(), NotDurable>> + Send + use<> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(rdkafka::message::Header { key, value: Some(*value) });
        }
        let (acknowledge, acknowledged) = oneshot::channel();
        let command = Command::Record {
            topic: record.topic,
            partition: record.partition,
            key: record.key,
            payload: record.payload,
            headers,
            acknowledge: Box::new(acknowledge),
        };
        let queued = self.0.try_send(command).map_err(refusal);
        async move {
            queued?;
            acknowledged.await.unwrap_or(Err(NotDurable::Closed))
        }
    }

    /// Whether the broker answers the client that publishes, after it was replaced if it had a fatal error.
    ///
    /// # Errors
    /// If it does not within `timeout`, or the queue is full.
    pub async fn ping(&self, timeout: Duration) -> Result<(), NotDurable> {
        let (result, answered) = oneshot::channel();
        self.0.try_send(Command::Ping { timeout, result }).map_err(refusal)?;
        answered.await.unwrap_or(Err(NotDurable::Closed))
    }

    /// Waits until every queued record has been confirmed or has failed. Blocks the thread.
    ///
    /// # Errors
    /// If that takes longer than `timeout`; dropping the producer then loses what is left.
    pub fn flush(&self, timeout: Duration) -> Result<(), NotDurable> {
        let (result, flushed) = oneshot::channel();
        self.0.blocking_send(Command::Flush { timeout, result }).map_err(|_| NotDurable::Closed)?;
        flushed.blocking_recv().unwrap_or(Err(NotDurable::Closed))
    }
}

fn refusal(refused: TrySendError<Command>) -> NotDurable {
    match refused {
        TrySendError::Full(_) => NotDurable::QueueFull,
        TrySendError::Closed(_) => NotDurable::Closed,
    }
}
