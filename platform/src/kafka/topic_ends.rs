//! Stores the watermarks of all partitions regularly, so that one query can compare them with what was read.
//!
//! This module alone writes `topic_ends`.

use std::time::Duration;

use domain::Topic;
use jiff::Timestamp;
use metrics::gauge;
use rdkafka::consumer::BaseConsumer;

use crate::kafka::{Config, watermarks};
use crate::metric;
use crate::postgres::{Db, Failure};
use crate::task::Stop;
use crate::telemetry::chain;

const EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);

struct End {
    topic: Topic,
    partition: i32,
    start: i64,
    end: i64,
}

pub async fn run(db: Db, config: Config, stop: Stop) {
    loop {
        match snapshot(&db, &config).await {
            Ok(()) => {}
            Err(problem) => tracing::debug!(error = chain(&problem), "ends of topics were not stored"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// The watermarks could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker is unavailable.
    #[error("broker did not return the ends of its topics")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error(transparent)]
    Postgres(#[from] Failure),
    /// The thread that queries the broker panicked.
    #[error("query of the broker was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Queries the broker once and stores its answer, with the lag of every processor as a metric.
///
/// # Errors
/// If the broker or Postgres is unavailable.
pub async fn snapshot(db: &Db, config: &Config) -> Result<(), Error> {
    // The instant before the query: everything read before it must be below the ends returned.
    let seen_at: Timestamp =
        db.get().await?.query_one("select clock_timestamp()", &[]).await.map_err(Failure::from)?.get(0);
    let query_config = config.clone();
    let ends = tokio::task::spawn_blocking(move || query_ends(&query_config)).await??;
    let topics: Vec<&str> = ends.iter().map(|it| it.topic.as_str()).collect();
    let partitions: Vec<i32> = ends.iter().map(|it| it.partition).collect();
    let starts: Vec<i64> = ends.iter().map(|it| it.start).collect();
    let nexts: Vec<i64> = ends.iter().map(|it| it.end).collect();
    let client = db.get().await?;
    client
        .execute(
            "insert into secretaria.topic_ends (topic, partition, start_offset, end_offset, seen_at)
             select it.topic, it.partition, it.start_offset, it.end_offset, $5
             from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[])
               as it (topic, partition, start_offset, end_offset)
             order by it.topic, it.partition
             on conflict (topic, partition) do update
             set start_offset = excluded.start_offset, end_offset = excluded.end_offset, seen_at = excluded.seen_at",
            &[&topics, &partitions, &starts, &nexts, &seen_at],
        )
        .await
        .map_err(Failure::from)?;
    let lags = client
        .query(
            "select o.processor, sum(greatest(e.end_offset - o.next_offset, 0))::bigint
             from secretaria.consumer_offsets o
             join secretaria.topic_ends e using (topic, partition)
             group by o.processor",
            &[],
        )
        .await
        .map_err(Failure::from)?;
    for row in lags {
        gauge!(metric::CONSUMER_LAG, "processor" => row.get::<_, String>(0)).set(row.get::<_, i64>(1) as f64);
    }
    let dead_lettered = client
        .query_one("select count(*) from secretaria.dead_letters where state = 'waiting'", &[])
        .await
        .map_err(Failure::from)?;
    gauge!(metric::DEAD_LETTER_QUEUE_SIZE).set(dead_lettered.get::<_, i64>(0) as f64);
    Ok(())
}

fn query_ends(config: &Config) -> Result<Vec<End>, rdkafka::error::KafkaError> {
    let client: BaseConsumer = config.observer()?;
    let mut ends = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..i32::from(config.partitions) {
            let (start, end) = watermarks(&client, &config.topic(topic), partition, TIMEOUT)?;
            ends.push(End { topic, partition, start, end });
        }
    }
    Ok(ends)
}

/// Whether the broker answers; blocks a thread of its own, not the runtime.
///
/// # Errors
/// If it does not answer within `timeout`.
pub async fn ping(config: &Config, timeout: Duration) -> Result<(), Error> {
    let config = config.clone();
    let metadata = tokio::task::spawn_blocking(move || {
        use rdkafka::consumer::Consumer;
        let client: BaseConsumer = config.observer()?;
        client.fetch_metadata(Some(&config.topic(Topic::InboundMessages)), timeout).map(drop)
    });
    Ok(metadata.await??)
}
