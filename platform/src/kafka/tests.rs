//! The producer and the reader on librdkafka's in-process broker, and on a real one where two members meet.

use std::collections::HashMap;
use std::time::Duration;

use domain::{ProcessorName, Topic};
use futures_util::future::join_all;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{Config, NotDurable, Outgoing, Producer, Reader, ReaderSetup, Record, create_topics};
use crate::tests::broker;

type Broker = MockCluster<'static, DefaultProducerContext>;

fn mock_broker() -> (Broker, Config) {
    let broker = MockCluster::new(1).unwrap();
    for topic in Topic::ALL {
        broker.create_topic(topic.as_str(), 2, 1).unwrap();
    }
    let config = Config {
        bootstrap: broker.bootstrap_servers(),
        partitions: 2,
        message_timeout_ms: 3_000,
        // Longer than this broker waits for a group to gather, or nobody would ever be in it.
        session_timeout_ms: 10_000,
        ..Config::default()
    };
    (broker, config)
}

fn numbered(partition: i32, payload: &[u8]) -> Outgoing<'static> {
    let (key, payload) = (b"1".to_vec(), payload.to_vec());
    Outgoing { topic: Topic::UsageEvents, partition, key, payload, headers: &[("kind", b"usage")] }
}

async fn publish(producer: &Producer, partition: i32, numbers: std::ops::Range<u32>) {
    for number in numbers {
        producer.publish(numbered(partition, number.to_string().as_bytes())).await.unwrap();
    }
}

fn read_from(config: &Config, positions: HashMap<i32, i64>) -> Reader {
    read_as("test", config, positions)
}

fn read_as(instance: &str, config: &Config, positions: HashMap<i32, i64>) -> Reader {
    Reader::start(ReaderSetup {
        client: config.consumer(ProcessorName::named("metering"), instance),
        topic: config.topic(Topic::UsageEvents),
        batch_records: 10,
        positions: move |_: &[i32]| positions.clone(),
    })
    .unwrap()
}

/// Reads so many records, as `partition/offset payload`.
async fn take(reader: &mut Reader, count: usize) -> (Vec<String>, Vec<Record>) {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(40), reader.next()).await.expect("records come").unwrap();
        records.extend(batch);
    }
    let show = |it: &Record| {
        let text = String::from_utf8_lossy(it.payload.as_deref().unwrap_or_default()).into_owned();
        format!("{}/{} {text}", it.partition, it.offset)
    };
    (records.iter().map(show).collect(), records)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_from_where_the_owner_says_and_in_order() {
    let (_broker, config) = mock_broker();
    let producer = Producer::impatient(&config, "test").unwrap();
    publish(&producer, 0, 0..3).await;
    publish(&producer, 1, 0..2).await;
    let mut reader = read_from(&config, HashMap::from([(0, 1)]));
    let (mut read, records) = take(&mut reader, 4).await;
    read.sort();
    assert_eq!(read, ["0/1 1", "0/2 2", "1/0 0", "1/1 1"]);
    assert_eq!(records[0].header_text("kind"), Some("usage"));
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_handed_over_without_waiting_lie_in_that_order() {
    let (_broker, config) = mock_broker();
    let producer = Producer::impatient(&config, "test").unwrap();
    let publish = |number: u32| producer.publish(numbered(0, number.to_string().as_bytes()));
    // More than are ever held back together.
    let published = join_all((0..2_000).map(publish).collect::<Vec<_>>()).await;
    assert!(published.iter().all(Result::is_ok));
    let mut reader = read_from(&config, HashMap::new());
    let expected: Vec<String> = (0..2_000).map(|n| format!("0/{n} {n}")).collect();
    assert_eq!(take(&mut reader, 2_000).await.0, expected);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushing_waits_for_what_is_held_back() {
    let (broker, config) = mock_broker();
    let producer = Producer::impatient(&config, "test").unwrap();
    publish(&producer, 0, 0..1).await;
    let first = producer.publish(numbered(0, b"1"));
    let flush = |patience| {
        let producer = producer.clone();
        tokio::task::spawn_blocking(move || producer.flush(Duration::from_millis(patience)))
    };
    flush(10_000).await.unwrap().unwrap();
    assert!(matches!(futures_util::FutureExt::now_or_never(first), Some(Ok(()))));
    broker.broker_down(1).unwrap();
    let second = producer.publish(numbered(0, b"2"));
    assert!(flush(100).await.unwrap().is_err());
    broker.broker_up(1).unwrap();
    assert!(second.await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_handed_back_is_read_again_and_what_was_read_ahead_does_not_count() {
    let (_broker, config) = mock_broker();
    let producer = Producer::impatient(&config, "test").unwrap();
    publish(&producer, 0, 0..30).await;
    let mut reader = read_from(&config, HashMap::new());
    let (_, records) = take(&mut reader, 10).await;
    reader.seek(0, 5);
    assert!(records.iter().all(|it| !reader.still_owns(it)));
    let (read, records) = take(&mut reader, 25).await;
    let expected: Vec<String> = (5..30).map(|n| format!("0/{n} {n}")).collect();
    assert_eq!(read, expected);
    assert!(records.iter().all(|it| reader.still_owns(it)));
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_shorter_than_what_was_read_is_shown_from_its_beginning() {
    let (_broker, config) = mock_broker();
    let producer = Producer::impatient(&config, "test").unwrap();
    publish(&producer, 0, 0..2).await;
    let mut reader = read_from(&config, HashMap::from([(0, 9)]));
    assert_eq!(take(&mut reader, 2).await.0, ["0/0 0", "0/1 1"]);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_not_durable_and_said_in_time() {
    let (broker, config) = mock_broker();
    let producer = Producer::impatient(&config, "test").unwrap();
    publish(&producer, 0, 0..1).await;
    broker.broker_down(1).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), producer.publish(numbered(0, b"1"))).await;
    assert!(matches!(answer, Ok(Err(NotDurable::Unconfirmed(_)))), "{answer:?}");
    broker.broker_up(1).unwrap();
    publish(&producer, 0, 2..3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_place_in_the_group_is_taken_ends() {
    let (broker, config) = mock_broker();
    let producer = Producer::impatient(&config, "test").unwrap();
    publish(&producer, 0, 0..1).await;
    let mut reader = read_from(&config, HashMap::new());
    take(&mut reader, 1).await;
    broker.request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
    let next = tokio::time::timeout(Duration::from_secs(40), reader.next()).await.expect("it does not go on silently");
    assert!(next.is_none());
}

/// Waits until a condition holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back() {
    let Some(config) = broker::kafka(2) else { return };
    create_topics(&config).await.unwrap();
    let producer = Producer::impatient(&config, "test").unwrap();
    join_all((0..2).map(|partition| publish(&producer, partition, 0..100))).await;
    let mut first = read_as("first", &config, HashMap::new());
    until("a full batch waits", || first.paused().len() == 2).await;
    let second = read_as("second", &config, HashMap::new());
    until("the other member has a partition", || first.assigned().len() == 1 && second.assigned().len() == 1).await;
    let (kept, left) = (first.assigned()[0], second.assigned()[0]);
    let end_of = async |reader: &mut Reader, partition: i32| {
        let end = format!("{partition}/99 99");
        while !take(reader, 1).await.0.contains(&end) {}
    };
    end_of(&mut first, kept).await;
    second.stop().await;
    until("the partition is back", || first.assigned().len() == 2).await;
    end_of(&mut first, left).await;
    first.stop().await;
}
