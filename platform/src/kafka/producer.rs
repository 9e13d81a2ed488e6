//! Publishing: a record is durable when every in-sync replica has it, and not a moment before.

use std::time::Duration;

use domain::Topic;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Config;
use super::gather::{Held, Serving};
use crate::task;

/// A producer with `acks=all` and idempotence. Cheap to clone. Outlives a fatal error of the client inside it.
#[derive(Clone)]
pub struct Producer(mpsc::Sender<Held>);

/// A header to write: its name and its bytes.
pub type Header<'a> = (&'a str, &'a [u8]);

/// One record to publish. Its key and value are handed over, never copied.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub topic: Topic,
    /// On which partition; placement has decided.
    pub partition: i32,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    /// Its headers, in order.
    pub headers: &'a [Header<'a>],
}

/// The record may be on the broker or not: nobody said so in time. The same record may be sent again.
#[derive(Debug, thiserror::Error)]
pub enum NotDurable {
    /// The producer's queue is full: the broker is away or slower than we are.
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
    /// Whether the record is larger than any broker of ours takes: trying again cannot help.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            NotDurable::Unconfirmed(KafkaError::MessageProduction(
                RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize
            ))
        )
    }

    /// A short stable word for counters.
    pub fn class(&self) -> &'static str {
        match self {
            NotDurable::QueueFull => "queue_full",
            NotDurable::Unconfirmed(_) => "unconfirmed",
            NotDurable::Closed => "closed",
        }
    }
}

impl Producer {
    /// A producer for hooks: fails within `kafka.message_timeout_ms`, so that the caller hears of it.
    ///
    /// # Errors
    /// If librdkafka refuses the settings. The broker need not be there.
    pub fn with_short_timeout(config: &Config, id: &str) -> Result<Self, KafkaError> {
        Self::new(config, id, config.message_timeout_ms)
    }

    /// A producer for the outbox: keeps a record until the broker is back, so that order holds.
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
            // While two requests are under way the next records gather: fewer and larger requests than with five.
            .set("max.in.flight.requests.per.connection", "2")
            .set("linger.ms", config.linger_ms.to_string())
            .set("message.timeout.ms", timeout_ms.to_string())
            .set("request.timeout.ms", timeout_ms.min(10_000).to_string())
            .set("queue.buffering.max.messages", config.queue_records.to_string())
            .set("queue.buffering.max.kbytes", "262144")
            .set("allow.auto.create.topics", "false");
        let serving = Serving::start(client, Topic::ALL.map(|topic| config.topic(topic)))?;
        let (hold, held) = mpsc::channel(config.queue_records as usize);
        task::spawn("producer", serving.hand_over(held));
        Ok(Producer(hold))
    }

    /// Hands the record over at once and returns what resolves when the broker has spoken.
    ///
    /// Records handed over one after another lie on their partition in that order. Dropping the returned future does
    /// not take the record back.
    pub fn publish(&self, record: Outgoing<'_>) -> impl Future<Output = Result<(), NotDurable>> + Send + use<> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(rdkafka::message::Header { key, value: Some(*value) });
        }
        let (acknowledge, acknowledged) = oneshot::channel();
        let held = Held::Record {
            topic: record.topic,
            partition: record.partition,
            key: record.key,
            payload: record.payload,
            headers,
            acknowledge: Box::new(acknowledge),
        };
        let queued = self.0.try_send(held).map_err(refusal);
        async move {
            queued?;
            acknowledged.await.unwrap_or(Err(NotDurable::Closed))
        }
    }

    /// Whether the broker answers the client that records are published with, which is one without a fatal error.
    ///
    /// # Errors
    /// If it does not within `timeout`, or so many records wait that it cannot be asked.
    pub async fn ping(&self, timeout: Duration) -> Result<(), NotDurable> {
        let (say, said) = oneshot::channel();
        self.0.try_send(Held::Ping { timeout, say }).map_err(refusal)?;
        said.await.unwrap_or(Err(NotDurable::Closed))
    }

    /// Waits until everything handed over has been confirmed or has failed. Blocks the thread.
    ///
    /// # Errors
    /// If that takes longer than `timeout`; dropping the producer then loses what is left.
    pub fn flush(&self, timeout: Duration) -> Result<(), NotDurable> {
        let (say, said) = oneshot::channel();
        self.0.blocking_send(Held::Flush { timeout, say }).map_err(|_| NotDurable::Closed)?;
        said.blocking_recv().unwrap_or(Err(NotDurable::Closed))
    }
}

fn refusal(refused: TrySendError<Held>) -> NotDurable {
    match refused {
        TrySendError::Full(_) => NotDurable::QueueFull,
        TrySendError::Closed(_) => NotDurable::Closed,
    }
}
