//! How many records the broker has: the sum of the topic's end offsets, which grows by one per durable record.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use domain::Topic;
use platform::kafka;
use secretaria::Settings;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A topic that was just made has partitions without a leader for a moment.
const ATTEMPTS: u32 = 50;

/// The settings by which to ask.
pub(crate) struct EndOffsets(kafka::Config);

impl EndOffsets {
    /// The ends of the topic of webhooks.
    pub(crate) fn of(settings: &Settings) -> Self {
        EndOffsets(settings.kafka.clone())
    }

    /// The sum of all partitions. An idempotent producer writes no control records, so every offset is a record.
    pub(crate) fn sum(&self) -> anyhow::Result<i64> {
        let client = self.0.observer()?;
        let topic = self.0.topic(Topic::InboundMessages);
        let end = |partition| {
            let mut asked = 0;
            loop {
                asked += 1;
                match kafka::watermarks(&client, &topic, partition, TIMEOUT) {
                    Ok((_, end)) => return Ok(end),
                    Err(_) if asked < ATTEMPTS => thread::sleep(Duration::from_millis(100)),
                    Err(problem) => return Err(problem).with_context(|| format!("end of partition {partition}")),
                }
            }
        };
        (0..i32::from(self.0.partitions)).try_fold(0, |sum, partition| Ok(sum + end(partition)?))
    }
}
