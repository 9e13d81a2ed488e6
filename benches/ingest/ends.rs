//! What the broker says it holds: the sum of the topic's end offsets, which grows by one per durable record.

use std::time::Duration;

use anyhow::Context;
use domain::Topic;
use platform::kafka;
use secretaria::Settings;

const PATIENCE: Duration = Duration::from_secs(10);

/// The settings by which to ask.
pub(crate) struct EndOffsets(kafka::Config);

impl EndOffsets {
    /// Of the topic of hooks.
    pub(crate) fn of(settings: &Settings) -> Self {
        EndOffsets(settings.kafka.clone())
    }

    /// All partitions together. An idempotent producer writes no control records, so every offset is a record.
    pub(crate) fn sum(&self) -> anyhow::Result<i64> {
        let client = self.0.observer()?;
        let topic = self.0.topic(Topic::InboundMessages);
        (0..i32::from(self.0.partitions)).try_fold(0, |sum, partition| {
            let (_, end) = kafka::watermarks(&client, &topic, partition, PATIENCE)
                .with_context(|| format!("end offset of partition {partition}"))?;
            Ok(sum + end)
        })
    }
}
