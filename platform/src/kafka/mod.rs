//! Kafka: settings, a producer that reports the broker's acknowledgements, a reader that never blocks a rebalance, topics.

mod admin;
mod assignment;
mod batcher;
mod member;
mod producer;
mod reader;
mod rebalance;
mod record;
pub mod topic_ends;
#[cfg(test)]
mod tests;

pub use admin::{create_topics, watermarks};
pub use producer::{Header, NotDurable, Outgoing, Producer};
pub use reader::{Batch, Batches, Position, Reader, ReaderSetup, SeekRequest};
pub use record::{Record, TopicPartition};

use std::time::Duration;

use domain::{ProcessorName, Topic};
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::settings;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Put before every topic and group, to share a broker.
    pub prefix: String,
    /// Partitions of every topic. Fixed once topics exist: adding some would move addresses.
    pub partitions: u16,
    /// Copies of every partition.
    pub replication: u16,
    /// How long a record may wait for others to share a request with, in milliseconds.
    pub linger_ms: u32,
    /// How long a publish may take before it counts as failed, in milliseconds; a webhook's response waits for it.
    pub message_timeout_ms: u32,
    /// Most records waiting inside the producer.
    pub queue_records: u32,
    /// How long the broker keeps a silent consumer's partitions for it, in milliseconds.
    pub session_timeout_ms: u32,
    /// After how long without a partition a consumer joins its group again with a new client, in milliseconds. Longer than
    /// a rebalance may take (`max.poll.interval.ms`). Doubled each time, up to 15 minutes, until a partition is assigned,
    /// because a process may be a spare one.
    pub rejoin_after_ms: u32,
    /// Most records of one poll, which is one transaction.
    pub poll_records: usize,
    /// Most bytes of one poll; the record that reaches it is the last of the poll. At most three polls are in memory per
    /// consumer: one being committed, one waiting to be, one being read.
    pub poll_bytes: usize,
    /// Attempts of a record that fails alone while others succeed, before it becomes a dead letter.
    pub record_attempts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bootstrap: "127.0.0.1:19092".into(),
            prefix: String::new(),
            partitions: 12,
            replication: 1,
            linger_ms: 0,
            message_timeout_ms: 4_000,
            queue_records: 100_000,
            session_timeout_ms: 30_000,
            rejoin_after_ms: 360_000,
            poll_records: 500,
            poll_bytes: 4 << 20,
            record_attempts: 10,
        }
    }
}

impl Config {
    /// Checks what can be checked without connecting.
    ///
    /// # Errors
    /// Names the invalid setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if self.bootstrap.trim().is_empty() {
            return Err(settings::Error::invalid("kafka.bootstrap", "must name at least one host:port"));
        }
        if !(1..=1_024).contains(&self.partitions) {
            return Err(settings::Error::invalid("kafka.partitions", "must be between 1 and 1024"));
        }
        if !(500..5_000).contains(&self.message_timeout_ms) {
            let problem = "must be from 500 to 4999, so that a 503 comes within five seconds";
            return Err(settings::Error::invalid("kafka.message_timeout_ms", problem));
        }
        if !(1_000..=900_000).contains(&self.rejoin_after_ms) {
            return Err(settings::Error::invalid("kafka.rejoin_after_ms", "must be between 1000 and 900000"));
        }
        if !(1..=10_000).contains(&self.poll_records) {
            return Err(settings::Error::invalid("kafka.poll_records", "must be between 1 and 10000"));
        }
        if !(65_536..=1 << 30).contains(&self.poll_bytes) {
            return Err(settings::Error::invalid("kafka.poll_bytes", "must be between 65536 and 1073741824"));
        }
        if !(1..=1_000).contains(&self.record_attempts) {
            return Err(settings::Error::invalid("kafka.record_attempts", "must be between 1 and 1000"));
        }
        Ok(())
    }

    /// The limits of a poll. A poll is passed on at once, or when the one before it is committed.
    pub fn batches(&self) -> Batches {
        Batches { records: self.poll_records, bytes: self.poll_bytes, wait: Duration::ZERO }
    }

    /// A topic's name on this broker.
    pub fn topic(&self, topic: Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    fn client(&self, id: &str) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", format!("secretaria-{id}"))
            .set("socket.keepalive.enable", "true")
            // The broker's addresses are what it advertises; IPv4 first avoids a local broker that listens on one only.
            .set("broker.address.family", "v4")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        client
    }

    pub(crate) fn consumer(&self, processor: ProcessorName, instance: &str) -> ClientConfig {
        let mut consumer = self.client(&format!("{processor}-{instance}"));
        consumer
            .set("group.id", format!("{}{processor}", self.prefix))
            // Static membership: a killed member that comes back takes its partitions at once.
            .set("group.instance.id", format!("{processor}-{instance}"))
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (self.session_timeout_ms / 10).to_string())
            .set("max.poll.interval.ms", "300000")
            // Offsets are stored in Postgres, in the transaction that handles the records.
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "50")
            .set("queued.min.messages", "2000")
            .set("queued.max.messages.kbytes", "16384")
            .set("isolation.level", "read_committed");
        consumer
    }
}
