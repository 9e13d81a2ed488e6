//! Records of one signature under several ids, as a captured request can produce them, on a real Postgres.

use domain::header;

use super::tests::{consumer, counts, outcomes, replayed, usage};
use super::*;
use crate::tests::database::{Database, in_a_database};

/// A record of a request with this signature.
fn signed(mac: u8, mut record: Record) -> Record {
    record.headers.push((header::MAC.to_owned(), hex::encode([mac; 32]).into_bytes()));
    record
}

/// The same record on another partition.
fn on_partition(partition: i32, record: Record) -> Record {
    Record::kept(record.topic, partition, record.offset, record.key, record.payload, record.headers)
}

/// The same record, received so many seconds after the others.
fn received_later(seconds: i64, mut record: Record) -> Record {
    let mut envelope: serde_json::Value = serde_json::from_slice(&record.payload.unwrap()).unwrap();
    envelope["received_at"] = (1_760_000_000_000_001 + seconds * 1_000_000).into();
    record.payload = Some(envelope.to_string().into_bytes());
    record
}

async fn reasons(database: &Database) -> Vec<String> {
    database.rows("select record_offset, coalesce(reason, state) from event_outcomes order by record_offset").await
}

#[tokio::test]
async fn a_signature_is_handled_as_one_event_and_a_second_one_is_ignored() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        let batch = vec![signed(1, usage(10, 1)), signed(1, usage(11, 2)), signed(2, usage(12, 3)), usage(13, 4)];
        consumer.process_batch(batch).await;
        consumer.process_batch(vec![signed(2, usage(14, 5)), signed(1, usage(15, 6)), usage(16, 7)]).await;
        let expected =
            ["10 | done", "11 | duplicate", "12 | done", "13 | done", "14 | duplicate", "15 | duplicate", "16 | done"];
        assert_eq!(reasons(database).await, expected);
        assert_eq!(counts(database).await, ["1 | 3 | 7 | 7 | 0 | 0"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn the_same_request_sent_again_is_a_duplicate_by_its_outcome() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        consumer.process_batch(vec![signed(1, usage(10, 1)), signed(1, usage(11, 1))]).await;
        consumer.process_batch(vec![signed(1, usage(12, 1))]).await;
        assert_eq!(reasons(database).await, ["10 | done"]);
        assert_eq!(counts(database).await, ["1 | 3 | 3 | 1 | 2 | 0"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_replayed_event_is_not_a_repeat_of_itself() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        let mut garbage = signed(1, usage(10, 1));
        garbage.payload = Some(b"garbage".to_vec());
        consumer.process_batch(vec![garbage]).await;
        consumer.process_batch(vec![signed(1, replayed(usage(11, 1)))]).await;
        assert_eq!(outcomes(database).await, ["10 | done"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn when_two_processes_handle_one_signature_at_once_one_of_them_gets_it() {
    in_a_database(async |database| {
        let (one, two) = (consumer(database), consumer(database));
        let here: Batch = (0..20).map(|n| signed(n, usage(10 + i64::from(n), u128::from(n)))).collect();
        let there: Batch =
            (0..20).rev().map(|n| on_partition(4, signed(n, usage(50 - i64::from(n), 100 + u128::from(n))))).collect();
        tokio::join!(one.process_batch(here), two.process_batch(there));
        let ended = "select coalesce(reason, state), count(*) from event_outcomes group by 1 order by 1";
        assert_eq!(database.rows(ended).await, ["done | 20", "duplicate | 20"]);
        database.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn signatures_are_forgotten_by_the_age_of_what_is_read_in_their_partition() {
    in_a_database(async |database| {
        let consumer = consumer(database);
        consumer.process_batch(vec![signed(1, usage(10, 1)), on_partition(4, signed(2, usage(10, 2)))]).await;
        let remembered = "select partition, event_id from seen_signatures order by 1, 2";
        consumer.process_batch(vec![received_later(1_200, signed(3, usage(11, 3)))]).await;
        assert_eq!(database.rows(remembered).await.len(), 3, "twenty minutes later it could still be sent again");
        consumer.process_batch(vec![received_later(1_201, signed(4, usage(12, 4)))]).await;
        let id = |n: u32| format!("00000000-0000-0000-0000-{n:012}");
        let expected = [format!("3 | {}", id(3)), format!("3 | {}", id(4)), format!("4 | {}", id(2))];
        assert_eq!(database.rows(remembered).await, expected, "the other partition may be hours behind");
    })
    .await;
}
