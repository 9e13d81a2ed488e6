//! A member of a consumer group: the client that joins it, and its replacement when it has lost its membership.

use std::collections::HashMap;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::TopicPartition;
use super::assignment::Assignment;
use super::rebalance::{Names, Rebalancing};

/// What a client is made of.
pub(super) struct Member<P> {
    pub(super) config: rdkafka::ClientConfig,
    pub(super) names: Names,
    pub(super) assignment: Arc<Assignment>,
    pub(super) committed_offsets: Arc<P>,
}

impl<P> Member<P>
where
    P: Fn(&[TopicPartition]) -> HashMap<TopicPartition, i64> + Send + Sync + 'static,
{
    /// A new client, which joins the group.
    pub(super) fn join(&self) -> Result<BaseConsumer<Rebalancing<P>>, KafkaError> {
        let context = Rebalancing {
            assignment: Arc::clone(&self.assignment),
            names: self.names.clone(),
            committed_offsets: Arc::clone(&self.committed_offsets),
            replaced: Arc::default(),
        };
        let consumer: BaseConsumer<Rebalancing<P>> = self.config.create_with_context(context)?;
        consumer.subscribe(&self.names.0.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>())?;
        Ok(consumer)
    }
}
