//! Assignment and revocation of partitions: the offsets to read from, and which records still count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::TopicPartition;
use super::assignment::{Assignment, Generation};

/// The topics' names on the broker, both ways.
#[derive(Clone)]
pub(super) struct Names(pub(super) Arc<[(Topic, String)]>);

impl Names {
    pub(super) fn of(&self, topic: Topic) -> &str {
        self.0.iter().find(|(known, _)| *known == topic).map_or(topic.as_str(), |(_, name)| name)
    }

    pub(super) fn topic(&self, name: &str) -> Option<Topic> {
        self.0.iter().find(|(_, known)| known == name).map(|(topic, _)| *topic)
    }

    pub(super) fn list(&self, partitions: &[TopicPartition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for at in partitions {
            list.add_partition(self.of(at.topic), at.partition);
        }
        list
    }
}

pub(super) struct Rebalancing<P> {
    pub(super) assignment: Arc<Assignment>,
    pub(super) names: Names,
    pub(super) committed_offsets: Arc<P>,
    /// Set when another client has taken this one's place: what happens to it no longer concerns the assignment.
    pub(super) replaced: Arc<AtomicBool>,
}

impl<P: Send + Sync + 'static> ClientContext for Rebalancing<P> {
    // The default implementation logs every statistics document.
    fn stats(&self, _: Statistics) {}
}

impl<P> ConsumerContext for Rebalancing<P>
where
    P: Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static,
{
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let elements = list.elements();
        let partitions: Vec<TopicPartition> = elements
            .iter()
            .filter_map(|it| Some(TopicPartition { topic: self.names.topic(it.topic())?, partition: it.partition() }))
            .collect();
        if self.replaced.load(Ordering::Relaxed) {
            // Without an answer to its event a client is never closed.
            if let Err(problem) = consumer.unassign() {
                tracing::debug!(error = %problem, "a replaced consumer was not unassigned");
            }
            return;
        }
        let done = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, &partitions)
        } else {
            let mut known = self.assignment.partitions();
            known.retain(|partition, _| !partitions.contains(partition));
            drop(known);
            consumer.incremental_unassign(list)
        };
        match done {
            Ok(()) => tracing::debug!(?partitions, ?event, "partitions assigned or revoked"),
            Err(problem) => tracing::error!(error = %problem, "rebalance failed"),
        }
    }
}

impl<P> Rebalancing<P>
where
    P: Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static,
{
    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let committed_offsets = (self.committed_offsets)(partitions);
        let mut list = TopicPartitionList::new();
        for at in partitions {
            let from = match committed_offsets.get(at) {
                Some(next) if !self.ends_before(consumer, *at, *next) => Offset::Offset(*next),
                Some(_) | None => Offset::Beginning,
            };
            list.add_partition_offset(self.names.of(at.topic), at.partition, from)?;
        }
        let mut known = self.assignment.partitions();
        for at in partitions {
            // Above any number used before, so that records still queued from an earlier assignment do not count.
            let next = next_generation();
            known.insert(*at, Generation { written: next, valid: next, paused: false });
        }
        drop(known);
        // librdkafka keeps the pause of a partition that was revoked while paused.
        consumer.resume(&self.names.list(partitions))?;
        consumer.incremental_assign(&list)
    }
}

impl<P: Send + Sync + 'static> Rebalancing<P> {
    /// Whether the log ends before the committed offset: then the topic was recreated, and is read from its beginning, so
    /// that the consumer notices. If the broker does not answer, the log is taken to be the old one.
    fn ends_before(&self, consumer: &BaseConsumer<Self>, at: TopicPartition, next: i64) -> bool
    where
        Self: ConsumerContext,
    {
        let watermarks = consumer.fetch_watermarks(self.names.of(at.topic), at.partition, Duration::from_secs(1));
        watermarks.is_ok_and(|(_, end)| end < next)
    }
}

/// Numbers that only grow, within this process.
fn next_generation() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1 << 20, Ordering::Relaxed)
}
