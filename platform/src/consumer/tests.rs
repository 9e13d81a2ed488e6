//! The consumer: sorting records is pure; committing them is shown in a Postgres, with a broker that is never there
//! except where two members meet.

use domain::{CompanyId, EventId, Fact, SCHEMA, UsageEvent, header};
use serde_json::json;
use tokio_postgres::Error;
use uuid::Uuid;

use super::*;
use crate::kafka::{self, Config, Outgoing, Producer};
use crate::outcomes::Replay;
use crate::task;
use crate::tests::broker;
use crate::tests::database::{Database, in_a_database};

const TOPIC: Topic = Topic::UsageEvents;

/// A record of company 1's event, with the headers that ours have.
fn record(offset: i64, event: u128, payload: &str) -> Record {
    let headers = vec![
        (header::COMPANY.to_owned(), b"1".to_vec()),
        (header::EVENT_ID.to_owned(), EventId(Uuid::from_u128(event)).to_string().into_bytes()),
    ];
    Record::kept(TOPIC, 3, offset, Some(b"1".to_vec()), Some(payload.into()), headers)
}

pub(super) fn usage(offset: i64, event: u128) -> Record {
    tokens(offset, event, "model")
}

/// A partition of the tests' topic.
pub(super) fn on(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

/// The same record on partition 4.
pub(super) fn on_partition_4(offset: i64, event: u128) -> Record {
    let mut record = usage(offset, event);
    record.partition = 4;
    record
}

pub(super) fn tokens(offset: i64, event: u128, model: &str) -> Record {
    record(offset, event, &envelope(event, SCHEMA, "usage", model))
}

fn envelope(event: u128, schema: u32, kind: &str, model: &str) -> String {
    let fact = json!({"fact": "model_tokens", "model": model, "input": 1, "output": 1, "cached": 0});
    json!({
        "schema": schema, "event_id": EventId(Uuid::from_u128(event)), "company_id": 1, "kind": kind,
        "occurred_at": 1_760_000_000_000_000_i64, "received_at": 1_760_000_000_000_001_i64, "payload": fact,
    })
    .to_string()
}

pub(super) fn replayed(mut record: Record) -> Record {
    record.headers.push((header::ATTEMPT.to_owned(), b"1".to_vec()));
    record
}

/// One record, decoded: company, event, and the cause if it is invalid.
fn decoded(record: &Record) -> (CompanyId, EventId, Option<String>) {
    let decoded = decode::decode::<UsageEvent>(std::slice::from_ref(record), &[Kind::Usage]).remove(0);
    let seen = decoded.incoming();
    let cause = match decoded {
        Decoded::Valid { .. } => None,
        Decoded::Invalid(invalid) => Some(format!("{}: {}", invalid.cause.class, invalid.cause.detail)),
    };
    (seen.company, seen.event, cause)
}

#[test]
fn a_record_of_ours_is_an_event() {
    assert_eq!(decoded(&usage(7, 5)), (CompanyId(1), EventId(Uuid::from_u128(5)), None));
}

#[test]
fn garbage_without_headers_has_no_company_and_is_identified_by_its_position() {
    let poison = |offset| Record::kept(TOPIC, 3, offset, None, Some(b"{\"schema\": 1, maria".to_vec()), Vec::new());
    let (company, event, cause) = decoded(&poison(7));
    assert_eq!((company, event), (CompanyId::NONE, EventId::of_position("usage.events", 3, 7)));
    let cause = cause.unwrap();
    assert_eq!(cause, "undecodable: record does not decode: line 1 column 15");
    assert_ne!(decoded(&poison(8)).1, event);
}

#[test]
fn an_unreadable_record_is_identified_by_its_headers() {
    let (company, event, cause) = decoded(&record(7, 5, ""));
    assert_eq!((company, event), (CompanyId(1), EventId(Uuid::from_u128(5))));
    assert_eq!(cause.as_deref(), Some("empty: record has no payload"));
    let mut tombstone = record(7, 5, "");
    tombstone.payload = None;
    assert_eq!(decoded(&tombstone), (company, event, cause));
}

#[test]
fn invalid_headers_are_not_used() {
    let says = |company: &[u8], event: &[u8]| {
        let mut record = record(7, 5, "");
        record.headers =
            vec![(header::COMPANY.to_owned(), company.into()), (header::EVENT_ID.to_owned(), event.into())];
        let (company, event, _) = decoded(&record);
        (company, event)
    };
    let position = EventId::of_position("usage.events", 3, 7);
    for (company, event) in [("0", "x"), ("-3", ""), ("1e3", "5"), ("\u{0}", "null")] {
        assert_eq!(says(company.as_bytes(), event.as_bytes()), (CompanyId::NONE, position));
    }
    assert_eq!(says(&[0xff, 0xfe], &[0xff]), (CompanyId::NONE, position));
}

#[test]
fn an_unknown_schema_and_a_wrong_kind_are_named_in_the_cause() {
    let cause = |schema, kind| decoded(&record(7, 5, &envelope(5, schema, kind, "m"))).2.unwrap();
    assert_eq!(cause(9, "usage"), "unknown_schema: unknown schema 9, this build reads 1");
    assert_eq!(cause(1, "inbound_message"), "wrong_kind: kind inbound_message where usage belongs");
}

#[test]
fn an_invalid_record_is_kept_as_it_was_read_with_every_header() {
    let mut odd = record(7, 5, "garbage");
    odd.headers.push(("odd".to_owned(), vec![0xff, 0]));
    let batch = [usage(6, 4), odd, usage(8, 6)];
    let decoded = decode::decode::<UsageEvent>(&batch, &[Kind::Usage]);
    let offsets = decoded.iter().map(|it| it.incoming().offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [6, 7, 8]);
    let Decoded::Invalid(invalid) = &decoded[1] else { panic!("garbage is invalid") };
    assert_eq!(invalid.record.headers, batch[1].headers);
    assert_eq!(invalid.record.payload.as_deref(), Some(b"garbage".as_slice()));
    assert_eq!(invalid.cause.attempts, 1);
}

#[test]
fn only_a_record_with_an_attempt_header_is_a_replay() {
    let replay =
        |record: &Record| decode::decode::<UsageEvent>(std::slice::from_ref(record), &[Kind::Usage])[0].incoming();
    assert_eq!(replay(&usage(7, 5)).replay, Replay::No);
    assert_eq!(replay(&replayed(usage(7, 5))).replay, Replay::Yes);
    assert_eq!(replay(&replayed(record(7, 5, "garbage"))).replay, Replay::Yes);
}

/// Handles every event, but Postgres refuses the model `poison`, lacks a table for `absent`, and raises an exception for
/// `raises`.
#[derive(Default)]
pub(super) struct TestHandler {
    /// Attempts at the latter two.
    pub(super) failed: AtomicU32,
}

impl Handler for TestHandler {
    type Payload = UsageEvent;

    const PROCESSOR: ProcessorName = ProcessorName::named("metering");
    const TOPICS: &'static [Topic] = &[TOPIC];
    const KINDS: &'static [Kind] = &[Kind::Usage];

    async fn handle(&self, tx: &Transaction<'_>, events: &[Event<'_, UsageEvent>]) -> Result<Handled, Failure> {
        for it in events {
            let Fact::ModelTokens { model, .. } = &it.envelope.payload.fact else { panic!("tokens only") };
            let refused: Result<_, Error> = tx.execute("select 1 / ($1::text <> 'poison')::int", &[model]).await;
            refused?;
            let failing = match model.as_str() {
                "absent" => "select from nowhere",
                "raises" => "do $$ begin raise exception 'no'; end $$",
                _ => continue,
            };
            self.failed.fetch_add(1, Ordering::Relaxed);
            tx.execute(failing, &[]).await?;
        }
        Ok(vec![EventOutcome::Done; events.len()].into())
    }
}

/// A consumer that has not loaded any offsets and whose broker cannot be reached; partitions 3 and 4 are assigned to it.
pub(super) fn consumer(database: &Database) -> Consumer<TestHandler> {
    let kafka = Config { bootstrap: "127.0.0.1:9".into(), ..Config::default() };
    let reader = Reader::start(ReaderSetup {
        rejoin_after: Duration::from_secs(360),
        client: kafka.consumer(TestHandler::PROCESSOR, "test"),
        topics: vec![(TOPIC, kafka.topic(TOPIC))],
        batches: kafka.batches(),
        committed_offsets: |_: &[TopicPartition]| HashMap::new(),
    });
    let reader = reader.unwrap();
    reader.own(&[on(3), on(4)]);
    let (db, committed_offsets) = (database.service.clone(), CommittedOffsets::default());
    let (stopped, gaps, stop) = (Mutex::default(), Mutex::default(), Stop::new());
    let dead_lettered_in_a_row = AtomicU32::new(0);
    let handler = TestHandler::default();
    Consumer {
        handler,
        db,
        wake: Wake::default(),
        reader,
        committed_offsets,
        stopped,
        gaps,
        attempts: 3,
        dead_lettered_in_a_row,
        stop,
    }
}

pub(super) async fn counts(database: &Database) -> Vec<String> {
    let sql = "select company_id, partition, records, admitted, duplicates, replayed
               from consumer_counts order by company_id, partition";
    database.rows(sql).await
}

pub(super) async fn outcomes(database: &Database) -> Vec<String> {
    database.rows("select record_offset, state from event_outcomes order by record_offset").await
}

pub(super) async fn offsets(database: &Database) -> Vec<String> {
    database.rows("select partition, first_offset, next_offset from consumer_offsets order by partition").await
}

#[tokio::test]
async fn every_record_of_a_batch_is_counted_and_poison_does_not_stop_it() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        let without_company = Record::kept(TOPIC, 4, 100, None, Some(b"poison".to_vec()), Vec::new());
        let batch = vec![usage(10, 1), usage(11, 1), record(12, 2, "garbage"), usage(13, 3), without_company];
        consumer.process_batch(batch).await;
        assert_eq!(counts(database).await, ["0 | 4 | 1 | 1 | 0 | 0", "1 | 3 | 4 | 3 | 1 | 0"]);
        assert_eq!(outcomes(database).await, ["10 | done", "12 | dead_lettered", "13 | done", "100 | dead_lettered"]);
        assert_eq!(offsets(database).await, ["3 | 10 | 14", "4 | 100 | 101"]);
        let dead_letters = database.rows("select company_id, cause, record_offset from dead_letters order by 1").await;
        assert_eq!(dead_letters, ["0 | undecodable | 100", "1 | undecodable | 12"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_handled_again_and_counted_as_replayed() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        consumer.process_batch(vec![record(10, 1, "garbage")]).await;
        consumer.process_batch(vec![usage(11, 1)]).await;
        assert_eq!(outcomes(database).await, ["10 | dead_lettered"], "a repeat does not reopen it");
        consumer.process_batch(vec![replayed(usage(12, 1)), replayed(usage(13, 1))]).await;
        assert_eq!(outcomes(database).await, ["10 | done"]);
        assert_eq!(counts(database).await, ["1 | 3 | 4 | 1 | 2 | 1"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_with_old_offsets_loads_the_committed_ones_and_handles_nothing_twice() {
    in_a_database(async |database| {
        let batch = vec![usage(10, 1), usage(11, 2)];
        let first = consumer(database);
        first.process_batch(batch.clone()).await;
        let other = consumer(database);
        other.process_batch(batch).await;
        assert_eq!(other.committed_offsets()[&on(3)], 12);
        other.reader.own(&[on(3)]);
        other.process_batch(vec![usage(12, 3)]).await;
        // Now the first one has not loaded the offsets that the other one committed.
        first.process_batch(vec![usage(12, 3), usage(13, 4)]).await;
        assert_eq!(first.committed_offsets()[&on(3)], 13);
        // What it still holds was read before the seek.
        first.process_batch(vec![usage(12, 3), usage(13, 4)]).await;
        assert!(
            first.stopped.lock().unwrap().is_empty(),
            "repeats from an earlier assignment do not mean that the topic was recreated"
        );
        assert_eq!(counts(database).await, ["1 | 3 | 4 | 4 | 0 | 0"]);
        assert_eq!(offsets(database).await, ["3 | 10 | 14"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_recreated_topic_stops_its_partition_and_no_other() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        consumer.process_batch(vec![usage(10, 1), usage(11, 2)]).await;
        consumer.process_batch(vec![usage(0, 3), on_partition_4(7, 4)]).await;
        consumer.process_batch(vec![usage(12, 5), on_partition_4(8, 6)]).await;
        assert_eq!(*consumer.stopped.lock().unwrap(), HashSet::from([on(3)]));
        assert_eq!(offsets(database).await, ["3 | 10 | 12", "4 | 7 | 9"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_begins_too_late_is_read_again_once_before_it_is_committed() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        consumer.process_batch(vec![usage(10, 1)]).await;
        consumer.process_batch(vec![usage(12, 3)]).await;
        assert_eq!(offsets(database).await, ["3 | 10 | 11"], "the record between may have been lost on the way");
        consumer.reader.own(&[on(3)]);
        consumer.process_batch(vec![usage(12, 3)]).await;
        assert_eq!(offsets(database).await, ["3 | 10 | 13"], "there is none");
        assert_eq!(outcomes(database).await, ["10 | done", "12 | done"]);
    })
    .await;
}

#[tokio::test]
async fn of_two_members_that_hold_the_same_batch_one_commits_it() {
    in_a_database(async |database| {
        let batch: Batch = (0..20).map(|it| usage(10 + it, it as u128)).collect();
        let (one, two) = (consumer(database), consumer(database));
        tokio::join!(one.process_batch(batch.clone()), two.process_batch(batch));
        assert_eq!(counts(database).await, ["1 | 3 | 20 | 20 | 0 | 0"]);
        assert_eq!(offsets(database).await, ["3 | 10 | 30"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_fenced_by_another_ends_with_an_error_and_the_other_reads_on() {
    let Some(kafka) = broker::kafka(1) else { return };
    in_a_database(async |database| {
        kafka::create_topics(&kafka).await.unwrap();
        let producer = Producer::with_short_timeout(&kafka, "test").unwrap();
        let publish = |record: Record| {
            let headers: Vec<_> =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            let (key, payload) = (record.key.unwrap(), record.payload.unwrap());
            producer.publish(Outgoing { topic: TOPIC, partition: 0, key, payload, headers: &headers })
        };
        let until_handled = async |count: usize| while outcomes(database).await.len() < count {};
        let member = |stop: &Stop| {
            let (db, kafka, stop) = (database.service.clone(), kafka.clone(), stop.clone());
            task::spawn(
                "member",
                async move { run(TestHandler::default(), db, &kafka, "one", Wake::default(), stop).await },
            )
        };
        let timeout = Duration::from_secs(60);
        let (never, stop) = (Stop::new(), Stop::new());
        let first = member(&never);
        publish(usage(0, 1)).await.unwrap();
        tokio::time::timeout(timeout, until_handled(1)).await.expect("the first handles it");
        let second = member(&stop);
        let ended = tokio::time::timeout(timeout, first).await.expect("the first is fenced").unwrap();
        assert!(matches!(ended, Err(super::Error::Ended { processor: TestHandler::PROCESSOR })), "{ended:?}");
        publish(usage(1, 2)).await.unwrap();
        tokio::time::timeout(timeout, until_handled(2)).await.expect("the second handles it");
        stop.cancel();
        second.await.unwrap().unwrap();
        assert_eq!(outcomes(database).await, ["0 | done", "1 | done"]);
    })
    .await;
}
