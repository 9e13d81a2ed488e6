//! Creates topics with explicit partitions, and reads their watermarks.

use std::time::Duration;

use domain::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Config;

const TIMEOUT: Duration = Duration::from_secs(12);

/// The topics could not be created as the settings require.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker cannot be reached or refused.
    #[error("setting `kafka.bootstrap`: kafka at {bootstrap} does not answer or refuses")]
    Kafka {
        bootstrap: String,
        #[source]
        source: KafkaError,
    },
    /// One topic was refused.
    #[error("topic {topic} was refused: {code}")]
    Refused { topic: String, code: RDKafkaErrorCode },
    /// A topic exists with another number of partitions; changing it would move addresses to other partitions.
    #[error("topic {topic} has {found} partitions, setting `kafka.partitions` says {wanted}")]
    OtherPartitions { topic: String, found: usize, wanted: u16 },
}

/// Creates missing topics and checks existing ones; returns the names of those created.
///
/// # Errors
/// If the broker is unavailable, refuses, or has a topic with another number of partitions.
pub async fn create_topics(config: &Config) -> Result<Vec<String>, Error> {
    let away = |source| Error::Kafka { bootstrap: config.bootstrap.clone(), source };
    let admin: AdminClient<DefaultClientContext> = config.client("migrate").create().map_err(away)?;
    let names = Topic::ALL.map(|topic| config.topic(topic));
    let wanted: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| {
            NewTopic::new(name, i32::from(config.partitions), TopicReplication::Fixed(i32::from(config.replication)))
        })
        .collect();
    let mut created = Vec::new();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    for result in admin.create_topics(&wanted, &options).await.map_err(away)? {
        match result {
            Ok(topic) => created.push(topic),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::Refused { topic, code }),
        }
    }
    let metadata = admin.inner().fetch_metadata(None, TIMEOUT).map_err(away)?;
    for topic in metadata.topics() {
        let found = topic.partitions().len();
        if names.iter().any(|name| name == topic.name()) && found != usize::from(config.partitions) {
            let topic = topic.name().to_owned();
            return Err(Error::OtherPartitions { topic, found, wanted: config.partitions });
        }
    }
    Ok(created)
}

/// The low and high watermark of one partition: its first offset and the one after its last. Blocks the thread for up to
/// `timeout`.
///
/// # Errors
/// If the broker is unavailable.
pub fn watermarks(
    client: &BaseConsumer,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<(i64, i64), KafkaError> {
    client.fetch_watermarks(topic, partition, timeout)
}

impl Config {
    /// A client that consumes nothing and queries metadata and watermarks.
    ///
    /// # Errors
    /// If librdkafka refuses the settings.
    pub fn observer(&self) -> Result<BaseConsumer, KafkaError> {
        self.client("observer").set("group.id", "observer-never-joins").create()
    }
}
