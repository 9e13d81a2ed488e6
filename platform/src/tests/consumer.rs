//! A consumer of two topics, on a real Kafka: a crash and a restart lose no event and handle none twice, with either kind
//! of accounting.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{Envelope, EventId, EventOutcome, Kind, ProcessorName, SCHEMA, Topic, header};
use platform::consumer::{self, Accounting, Event, Handled, Handler};
use platform::kafka::{self, Config, Outgoing, Producer};
use platform::postgres::{Failure, Transaction};
use platform::queue::Wake;
use platform::task::{self, Stop};
use platform::{clock, topic_ends};
use uuid::Uuid;

use super::broker;
use super::database::{Database, in_a_database};

const TOPICS: [Topic; 2] = [Topic::UsageEvents, Topic::Alerts];
const PARTITIONS: u16 = 2;

/// Stores each event it handles, and ignores every seventh.
struct Archive<const BY_RANGE: bool>;

impl<const BY_RANGE: bool> Handler for Archive<BY_RANGE> {
    type Payload = u32;

    const PROCESSOR: ProcessorName = ProcessorName::named("metering");
    const TOPICS: &'static [Topic] = &TOPICS;
    const KINDS: &'static [Kind] = &[Kind::Usage];
    const ACCOUNTING: Accounting = if BY_RANGE { Accounting::ByRange } else { Accounting::ByEvent };

    fn batches(&self, kafka: &Config) -> kafka::Batches {
        kafka::Batches { records: 7, wait: Duration::from_millis(20), ..kafka.batches() }
    }

    async fn handle(&self, tx: &Transaction<'_>, events: &[Event<'_, u32>]) -> Result<Handled, Failure> {
        let mut outcomes = Vec::new();
        for it in events {
            let (topic, number) = (it.record.topic.as_str(), i64::from(it.envelope.payload));
            tx.execute("insert into archived (topic, number) values ($1, $2)", &[&topic, &number]).await?;
            let ignored = EventOutcome::Ignored(domain::IgnoreReason::Group);
            outcomes.push(if it.envelope.payload % 7 == 0 { ignored } else { EventOutcome::Done });
        }
        Ok(outcomes.into())
    }
}

async fn publish(producer: &Producer, topic: Topic, number: u32) {
    let event = EventId(Uuid::from_u128(u128::from(number) << 8 | topic as u128));
    let now = clock::now();
    let payload = Envelope {
        schema: SCHEMA,
        event_id: event,
        company_id: domain::CompanyId(1),
        kind: Kind::Usage,
        occurred_at: now,
        received_at: now,
        payload: number,
    };
    // One record in each partition of each topic cannot be decoded.
    let payload = if number / 2 == 3 { b"garbage".to_vec() } else { payload.write().unwrap() };
    let event = event.to_string();
    let headers: [kafka::Header<'_>; 2] = [(header::COMPANY, b"1"), (header::EVENT_ID, event.as_bytes())];
    let partition = (number % u32::from(PARTITIONS)) as i32;
    let outgoing = Outgoing { topic, partition, key: b"1".to_vec(), payload, headers: &headers };
    producer.publish(outgoing).await.unwrap();
}

async fn archived(database: &Database) -> usize {
    database.rows("select from archived").await.len()
}

async fn a_restart_loses_and_doubles_nothing<const BY_RANGE: bool>(database: &Database, kafka: &Config) {
    kafka::create_topics(kafka).await.unwrap();
    database.run("create table archived (topic text, number bigint)").await;
    database.run("grant insert on archived to secretaria_service").await;
    let producer = Producer::with_short_timeout(kafka, "test").unwrap();
    let publish_all = async |numbers: std::ops::Range<u32>| {
        for number in numbers {
            for topic in TOPICS {
                publish(&producer, topic, number).await;
            }
        }
    };
    let member = |stop: &Stop| {
        let (db, kafka, stop) = (database.service.clone(), kafka.clone(), stop.clone());
        task::spawn("member", async move {
            consumer::run(Archive::<BY_RANGE>, db, &kafka, "one", Wake::default(), stop).await
        })
    };
    let until = async |count: usize| {
        let reached = async { while archived(database).await < count {} };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("they are handled");
    };
    publish_all(0..60).await;
    let first = member(&Stop::new());
    until(20).await;
    first.abort(); // At an arbitrary moment.
    publish_all(60..100).await;
    let stop = Stop::new();
    let second = member(&stop);
    until(2 * 98).await;
    stop.cancel();
    second.await.unwrap().unwrap();
    let sql = "select topic, count(*), count(distinct number) from archived group by topic order by topic";
    assert_eq!(database.rows(sql).await, ["alerts | 98 | 98", "usage.events | 98 | 98"]);
    topic_ends::snapshot(&database.service, kafka).await.unwrap();
    database.conserves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_over_two_topics_survives_a_restart() {
    let Some(kafka) = broker::kafka(PARTITIONS) else { return };
    in_a_database(async |database| {
        a_restart_loses_and_doubles_nothing::<false>(database, &kafka).await;
        let sql = "select state, count(*) from event_outcomes group by state order by state";
        assert_eq!(database.rows(sql).await, ["dead_lettered | 4", "done | 168", "ignored | 28"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_accounts_by_range_survives_a_restart_and_the_checks_find_what_is_broken() {
    let Some(kafka) = broker::kafka(PARTITIONS) else { return };
    in_a_database(async |database| {
        a_restart_loses_and_doubles_nothing::<true>(database, &kafka).await;
        let sums = "select sum(done), sum(ignored), sum(dead_lettered), count(*) < 200 from event_ranges";
        assert_eq!(database.rows(sums).await, ["168 | 28 | 4 | t"]);
        assert_eq!(database.rows("select from event_outcomes").await, [""; 0]);
        let broken_checks = async || {
            let broken = database.failed_checks().await.into_iter();
            broken.filter_map(|it| Some(it.split_once(" | ")?.0.to_owned())).collect::<BTreeSet<_>>()
        };
        database.run("update event_ranges set done = done + 1 where partition = 0 and first_offset = 0").await;
        let counts =
            ["a range counts every offset it spans", "every admitted record has an outcome"].map(str::to_owned);
        assert_eq!(broken_checks().await, counts.into());
        database.run("delete from event_ranges where partition = 0 and first_offset = 0").await;
        let follows = ["every admitted record has an outcome", "ranges follow one another up to the committed offset"];
        assert_eq!(broken_checks().await, follows.map(str::to_owned).into());
    })
    .await;
}
