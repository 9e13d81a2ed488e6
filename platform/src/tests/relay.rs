//! The outbox relay, from a real Postgres to librdkafka's in-process broker.

use std::time::Duration;

use domain::{CompanyId, EventId, ProcessorName, Topic};
use platform::kafka::{Config, Producer};
use platform::outbox::{self, Entry};
use platform::relay;
use platform::task::{self, Stop};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::database::{Database, in_a_database};

const TOPIC: Topic = Topic::UsageEvents;

fn entry(event: u128, payload: impl Into<Vec<u8>>) -> Entry {
    let headers = vec![("odd".to_owned(), vec![0xff, 0])];
    let (company, key, event) = (CompanyId(1), b"1/somebody".to_vec(), EventId(Uuid::from_u128(event)));
    Entry { company, topic: TOPIC, key, subject: "somebody".into(), spread: 1, event, headers, payload: payload.into() }
}

async fn push(database: &Database, entries: &[Entry]) {
    let mut client = database.service.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    outbox::push(&tx, entries).await.unwrap();
    tx.commit().await.unwrap();
}

/// Reads so many payloads from the beginning, without a group.
async fn published(config: &Config, count: usize) -> Vec<String> {
    let consumer: StreamConsumer = config.consumer(ProcessorName::named("metering"), "test").create().unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(&config.topic(TOPIC), 0, Offset::Beginning).unwrap();
    consumer.assign(&all).unwrap();
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let next =
            tokio::time::timeout(Duration::from_secs(30), consumer.recv()).await.expect("a record comes").unwrap();
        payloads.push(String::from_utf8_lossy(next.payload().unwrap()).into_owned());
    }
    payloads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_broker_accepts_becomes_a_dead_letter_and_those_behind_it_are_published() {
    in_a_database(async |database| {
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic(TOPIC.as_str(), 1, 1).unwrap();
        let config = Config { bootstrap: broker.bootstrap_servers(), partitions: 1, ..Config::default() };
        let too_large = vec![b'x'; 2_000_000];
        push(database, &[entry(1, "before"), entry(2, too_large), entry(3, "behind"), entry(4, "after that")]).await;
        database
            .run(
                "insert into outbox (company_id, topic, key, placed_by, spread, event_id, headers, payload)
                      select company_id, 'no.such.topic', key, placed_by, spread, md5('5')::uuid, headers, 'lost?'
                      from outbox where payload = 'before'",
            )
            .await;
        push(database, &[entry(6, "the last")]).await;

        let (db, producer, stop) =
            (database.service.clone(), Producer::with_retries(&config, "test").unwrap(), Stop::new());
        let relay = task::spawn("relay", relay::run(db, producer, 1, relay::Config::default(), stop.clone()));
        assert_eq!(published(&config, 4).await, ["before", "behind", "after that", "the last"]);
        // A round that has begun is completed.
        stop.cancel();
        relay.await.unwrap();

        assert_eq!(database.rows("select outbox_id from outbox").await, [""; 0]);
        let dead_letters =
            "select processor, cause, topic, partition, convert_from(key, 'utf8'), length(payload), headers, state
                     from dead_letters order by length(payload)";
        assert_eq!(
            database.rows(dead_letters).await,
            [
                r#"outbox | unpublishable | no.such.topic | -1 | 1/somebody | 5 | [["odd", "/wA="]] | waiting"#,
                r#"outbox | unpublishable | usage.events | -1 | 1/somebody | 2000000 | [["odd", "/wA="]] | waiting"#,
            ]
        );
        let named = "select event_id from dead_letters where topic = 'usage.events'";
        assert_eq!(database.rows(named).await, [Uuid::from_u128(2).to_string()]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_burst_into_an_empty_outbox_each_row_is_deleted_by_its_key() {
    const ROWS: usize = 2_000;
    in_a_database(async |database| {
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic(TOPIC.as_str(), 1, 1).unwrap();
        let config = Config { bootstrap: broker.bootstrap_servers(), partitions: 1, ..Config::default() };
        let burst: Vec<Entry> = (0..ROWS).map(|it| entry(it as u128, it.to_string())).collect();
        push(database, &burst).await;
        // The state that autovacuum leaves between two bursts: pages without rows.
        database.root.batch_execute("delete from secretaria.outbox").await.unwrap();
        database.root.batch_execute("vacuum (analyze, truncate false) secretaria.outbox").await.unwrap();
        push(database, &burst).await;
        database.run("select pg_stat_reset()").await;

        let (db, producer, stop) =
            (database.service.clone(), Producer::with_retries(&config, "test").unwrap(), Stop::new());
        let relay = task::spawn("relay", relay::run(db, producer, 1, relay::Config::default(), stop.clone()));
        published(&config, ROWS).await;
        stop.cancel();
        relay.await.unwrap();

        // The relay's connection has ended, so its statistics appear soon, all at once.
        let counted = "select idx_scan from pg_stat_user_tables where relname = 'outbox' and n_tup_del >= 2000";
        let mut looked_up = Vec::new();
        while looked_up.is_empty() {
            looked_up = database.rows(counted).await;
        }
        let looked_up: usize = looked_up[0].parse().unwrap();
        assert!(looked_up >= ROWS, "{ROWS} rows were deleted, and {looked_up} looked up");
    })
    .await;
}
