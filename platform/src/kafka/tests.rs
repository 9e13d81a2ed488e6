//! The producer and the reader on librdkafka's in-process broker, and on a real one for two members of a group.

use std::collections::HashMap;
use std::time::Duration;

use domain::{ProcessorName, Topic};
use futures_util::future::join_all;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{
    Batches, Config, NotDurable, Outgoing, Producer, Reader, ReaderSetup, Record, TopicPartition, create_topics,
};
use crate::clock;
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
        // Longer than this broker waits for members to join a group, or no member would ever be in it.
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

fn on(partition: i32) -> TopicPartition {
    TopicPartition { topic: Topic::UsageEvents, partition }
}

fn read_from(config: &Config, committed_offsets: HashMap<i32, i64>) -> Reader {
    read_as("test", config, committed_offsets, BATCHES)
}

const BATCHES: Batches = Batches { records: 10, bytes: 100_000, wait: Duration::ZERO };

fn read_as(instance: &str, config: &Config, committed_offsets: HashMap<i32, i64>, batches: Batches) -> Reader {
    Reader::start(ReaderSetup {
        rejoin_after: Duration::from_millis(config.rejoin_after_ms.into()),
        client: config.consumer(ProcessorName::named("metering"), instance),
        topics: vec![(Topic::UsageEvents, config.topic(Topic::UsageEvents))],
        batches,
        committed_offsets: move |_: &[TopicPartition]| {
            committed_offsets.iter().map(|(it, next)| (on(*it), *next)).collect()
        },
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
async fn what_is_published_is_read_from_the_given_offset_and_in_order() {
    let (_broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
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
async fn a_member_without_a_partition_joins_again_until_it_has_one() {
    let (broker, config) = mock_broker();
    // No member is ever in this group, and the client says nothing.
    broker.request_errors(RDKafkaApiKey::JoinGroup, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 2_000]);
    let config = Config { rejoin_after_ms: 1_000, ..config };
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    publish(&producer, 0, 0..2).await;
    let mut reader = read_from(&config, HashMap::from([(0, 1)]));
    let twice = async {
        while reader.rejoined() < 2 {
            assert!(reader.assigned().is_empty());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), twice).await.expect("it joins again");
    broker.clear_request_errors(RDKafkaApiKey::JoinGroup);
    assert_eq!(take(&mut reader, 1).await.0, ["0/1 1"]);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_published_without_waiting_are_stored_in_that_order() {
    let (_broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    let publish = |number: u32| producer.publish(numbered(0, number.to_string().as_bytes()));
    // More than one group.
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
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    publish(&producer, 0, 0..1).await;
    let first = producer.publish(numbered(0, b"1"));
    let flush = |timeout| {
        let producer = producer.clone();
        tokio::task::spawn_blocking(move || producer.flush(Duration::from_millis(timeout)))
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
async fn after_a_seek_a_partition_is_read_again_and_what_was_read_ahead_does_not_count() {
    let (_broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    publish(&producer, 0, 0..30).await;
    let mut reader = read_from(&config, HashMap::new());
    let (_, records) = take(&mut reader, 10).await;
    reader.seek(on(0), 5);
    assert!(records.iter().all(|it| !reader.still_owns(it)));
    let (read, records) = take(&mut reader, 25).await;
    let expected: Vec<String> = (5..30).map(|n| format!("0/{n} {n}")).collect();
    assert_eq!(read, expected);
    assert!(records.iter().all(|it| reader.still_owns(it)));
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_a_bound_in_bytes_and_so_has_what_waits_behind_it() {
    let (_broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    let published = join_all((0..16).map(|number| producer.publish(numbered(number % 2, &[b'x'; 30_000]))));
    assert!(published.await.iter().all(Result::is_ok));
    let mut reader = read_from(&config, HashMap::new());
    // The first batch is not received, so a second one waits behind it.
    until("a full batch waits", || reader.paused().len() == 2).await;
    let mut read = 0;
    while read < 16 {
        let batch = tokio::time::timeout(Duration::from_secs(40), reader.next()).await.expect("records come").unwrap();
        assert!(batch.len() <= 4, "{} records of 30 kB where 100 kB are the bound", batch.len());
        read += batch.len();
    }
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_may_wait_includes_what_arrives_meanwhile() {
    let (_broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    // So long that the batch can only be passed on because it is full.
    let batches = Batches { wait: Duration::from_secs(3_600), ..BATCHES };
    let mut reader = read_as("test", &config, HashMap::new(), batches);
    for number in 0..5 {
        publish(&producer, number % 2, 0..2).await;
    }
    let batch = tokio::time::timeout(Duration::from_secs(40), reader.next()).await.expect("it is full").unwrap();
    assert_eq!(batch.len(), 10);
    reader.stop().await;
    let batches = Batches { wait: Duration::from_millis(300), ..BATCHES };
    let mut reader = read_as("test", &config, HashMap::from([(0, 5)]), batches);
    let began = clock::instant();
    let mut read = 0;
    while read < 5 {
        read += tokio::time::timeout(Duration::from_secs(40), reader.next())
            .await
            .expect("it waits no longer")
            .unwrap()
            .len();
    }
    assert!(began.elapsed() >= batches.wait);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_ends_below_the_committed_offset_is_read_from_its_beginning() {
    let (_broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    publish(&producer, 0, 0..2).await;
    let mut reader = read_from(&config, HashMap::from([(0, 9)]));
    assert_eq!(take(&mut reader, 2).await.0, ["0/0 0", "0/1 1"]);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_the_broker_publishing_fails_in_time() {
    let (broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    publish(&producer, 0, 0..1).await;
    broker.broker_down(1).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), producer.publish(numbered(0, b"1"))).await;
    assert!(matches!(answer, Ok(Err(NotDurable::Unconfirmed(_)))), "{answer:?}");
    broker.broker_up(1).unwrap();
    publish(&producer, 0, 2..3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_sequence_the_broker_has_lost_is_replaced() {
    let (broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    publish(&producer, 0, 0..1).await;
    let lost = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    broker.request_errors(RDKafkaApiKey::Produce, &[lost]);
    let refused = producer.publish(numbered(0, b"1")).await;
    assert!(matches!(refused, Err(NotDurable::Unconfirmed(_))), "{refused:?}");
    producer.ping(Duration::from_secs(3)).await.unwrap();
    publish(&producer, 0, 2..4).await;
    let mut reader = read_from(&config, HashMap::new());
    assert_eq!(take(&mut reader, 3).await.0, ["0/0 0", "0/1 2", "0/2 3"]);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_the_broker_refused_at_its_start_is_replaced() {
    let (broker, config) = mock_broker();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    broker.request_errors(RDKafkaApiKey::InitProducerId, &[refused]);
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    // The broker refuses once.
    let publishes = async { while producer.publish(numbered(0, b"0")).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(30), publishes).await.expect("it is replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_fails_when_the_broker_is_down() {
    let (broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    producer.ping(Duration::from_secs(10)).await.unwrap();
    broker.broker_down(1).unwrap();
    assert!(producer.ping(Duration::from_millis(500)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_fenced_by_another_member_ends() {
    let (broker, config) = mock_broker();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
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
async fn a_partition_revoked_while_paused_is_read_when_it_is_assigned_again() {
    let Some(config) = broker::kafka(2) else { return };
    create_topics(&config).await.unwrap();
    let producer = Producer::with_short_timeout(&config, "test").unwrap();
    join_all((0..2).map(|partition| publish(&producer, partition, 0..100))).await;
    let mut first = read_as("first", &config, HashMap::new(), BATCHES);
    until("a full batch waits", || first.paused().len() == 2).await;
    let second = read_as("second", &config, HashMap::new(), BATCHES);
    until("the other member has a partition", || first.assigned().len() == 1 && second.assigned().len() == 1).await;
    let (kept, left) = (first.assigned()[0].partition, second.assigned()[0].partition);
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
