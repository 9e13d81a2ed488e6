//! Records on their way to librdkafka, gathered for as long as this process is busy with others.
//!
//! A produce request carries the records of one partition, and costs the broker and us many times what one more record
//! in it does. Waiting a fixed time for more (lingering) fills requests under load and is lost time without it. So a
//! group is held while other tasks are ready to run, which is where more records come from, and handed over the moment
//! nothing came meanwhile. [`AT_MOST`] and [`GROUP`] bound it.

use std::time::Duration;

use domain::Topic;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::{mpsc, oneshot};

use super::NotDurable;
use crate::clock;

/// Longest that a record is held back for others to come.
const AT_MOST: Duration = Duration::from_millis(10);
/// Most records held back together.
const GROUP: usize = 512;

/// Who waits for the broker's word.
type Waiting = Box<oneshot::Sender<Result<(), NotDurable>>>;

/// What a producer was given.
pub(super) enum Held {
    /// A record to publish.
    Record { topic: Topic, partition: i32, key: Vec<u8>, payload: Vec<u8>, headers: OwnedHeaders, acknowledge: Waiting },
    /// Somebody who waits until everything before this has been confirmed or has failed.
    Flush { patience: Duration, say: oneshot::Sender<Result<(), NotDurable>> },
}

/// Passes the broker's word on to whoever waits for it.
pub(super) struct Acknowledge;

impl ClientContext for Acknowledge {}

impl ProducerContext for Acknowledge {
    type DeliveryOpaque = Waiting;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Waiting) {
        let said = result.as_ref().map(|_| ()).map_err(|(error, _)| NotDurable::Unconfirmed(error.clone()));
        // Nobody may wait any more; the record is where it is all the same.
        let _ = waiting.send(said);
    }
}

type Client = ThreadedProducer<Acknowledge>;

/// Hands groups over until nobody can hold records any more.
pub(super) async fn hand_over(mut held: mpsc::Receiver<Held>, client: Client, topics: [String; Topic::ALL.len()]) {
    let mut group = Vec::with_capacity(GROUP);
    while held.recv_many(&mut group, GROUP).await > 0 {
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
        group.sort_by_key(Held::partition); // Stable: the order within a partition holds.
        for held in group.drain(..) {
            held.hand_to(&client, &topics);
        }
    }
}

impl Held {
    /// Flushing comes last.
    fn partition(&self) -> i32 {
        match self {
            Held::Record { partition, .. } => *partition,
            Held::Flush { .. } => i32::MAX,
        }
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
            Held::Flush { patience, say } => {
                let client = client.clone();
                tokio::task::spawn_blocking(move || {
                    let _ = say.send(client.flush(patience).map_err(NotDurable::Unconfirmed));
                });
            }
        }
    }
}
