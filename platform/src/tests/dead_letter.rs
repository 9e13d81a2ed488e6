//! Dead letters keep bytes and headers, and a replayed record carries its history.

use domain::{CompanyId, EventId, ProcessorName, Topic, header};
use platform::dead_letter::{self, Cause, FailedEvent, headers_as_json, headers_from_json, subject_of, with_history};
use platform::kafka::Record;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::database::{Database, in_a_database};

fn pairs(headers: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = prop_oneof![Just(header::CAUSE.to_owned()), Just(header::ATTEMPT.to_owned()), ".{0,12}"];
    prop::collection::vec((name, prop::collection::vec(any::<u8>(), 0..40)), 0..12)
}

proptest! {
    #[test]
    fn headers_of_dead_letters_are_kept_as_they_were(headers in headers()) {
        // Through text, as the column stores them.
        let stored = headers_as_json(&headers).to_string();
        prop_assert_eq!(headers_from_json(&serde_json::from_str(&stored).unwrap()), headers);
    }

    #[test]
    fn a_history_is_added_once_and_changes_no_other_header(headers in headers(), attempts in 0..100_i32) {
        let known = [header::CAUSE, header::ORIGIN, header::ATTEMPT];
        let once = with_history(&headers, "timeout", "inbound.messages/3/7", attempts);
        let twice = with_history(&once, "timeout", "inbound.messages/3/7", attempts);
        prop_assert_eq!(&twice, &once);
        let others = headers.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        let expected = pairs(&[
            (header::CAUSE, "timeout"),
            (header::ORIGIN, "inbound.messages/3/7"),
            (header::ATTEMPT, &attempts.to_string()),
        ]);
        prop_assert_eq!(once, others.cloned().chain(expected).collect::<Vec<_>>());
    }

    #[test]
    fn the_subject_is_what_follows_the_company(company in 1..i64::MAX, subject in "[^\u{0}]{0,40}") {
        prop_assert_eq!(subject_of(format!("{company}/{subject}").as_bytes()), subject);
        prop_assert_eq!(subject_of(company.to_string().as_bytes()), "");
    }
}

#[test]
fn a_key_that_is_no_text_has_no_subject() {
    assert_eq!(subject_of(b"42/\xff\xfe"), "");
    assert_eq!(subject_of(b""), "");
    assert_eq!(subject_of(b"42/g.us:1/2"), "g.us:1/2");
}

#[test]
fn malformed_headers_are_left_out() {
    let stored = json!([["kind", "dXNhZ2U="], ["broken", "%%"], ["alone"], 7, [1, "eA=="]]);
    assert_eq!(headers_from_json(&stored), pairs(&[("kind", "usage")]));
    assert_eq!(headers_from_json(&Value::Null), []);
}

fn record() -> Record {
    let headers = vec![("company".to_owned(), b"1".to_vec()), ("odd".to_owned(), vec![0xff, 0, 0xfe])];
    Record::kept(
        Topic::InboundMessages,
        3,
        7,
        Some(b"1/551199990001".to_vec()),
        Some(b"\x00not json\xff".to_vec()),
        headers,
    )
}

async fn dead_letter(database: &Database, record: &Record, class: &'static str, attempts: i32) {
    let event = EventId(Uuid::from_u128(1));
    let failed = FailedEvent { company: CompanyId(1), event, topic: Topic::InboundMessages, record };
    let cause = Cause { class: class.into(), detail: "why it was".to_owned(), attempts };
    let mut client = database.service.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    dead_letter::add(&tx, ProcessorName::named("reply"), &failed, &cause).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_keeps_the_bytes_of_its_record_and_is_announced_with_its_history() {
    in_a_database(async |database| {
        dead_letter(database, &record(), "undecodable", 1).await;
        let dead_letters = "select cause, detail, attempts, topic, partition, record_offset, convert_from(key, 'utf8'),
                       encode(payload, 'hex'), state
                     from dead_letters";
        assert_eq!(
            database.rows(dead_letters).await,
            ["undecodable | why it was | 1 | inbound.messages | 3 | 7 | 1/551199990001 | 006e6f74206a736f6eff | waiting"]
        );
        let placed = database.rows("select placed_by, spread from outbox").await;
        assert_eq!(placed, ["551199990001 | 2"]);
        let announced = database.publish(Topic::DeadLetters).await;
        assert_eq!(announced.len(), 1);
        assert_eq!(announced[0].payload, record().payload);
        assert_eq!(announced[0].header("odd"), Some([0xff, 0, 0xfe].as_slice()), "bytes that are no text survive");
        assert_eq!(announced[0].header_text(header::CAUSE), Some("reply: undecodable"));
        assert_eq!(announced[0].header_text(header::ORIGIN), Some("inbound.messages/3/7"));
        assert_eq!(announced[0].header_text(header::ATTEMPT), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn what_fails_again_after_a_replay_is_dead_lettered_again_with_all_its_attempts() {
    in_a_database(async |database| {
        dead_letter(database, &record(), "timeout", 6).await;
        database.run("update dead_letters set state = 'replayed', settled_at = now(), settled_by = 'ana'").await;
        dead_letter(database, &record(), "forbidden", 1).await;
        let dead_letters = "select state, cause, attempts, settled_at, settled_by from dead_letters";
        assert_eq!(database.rows(dead_letters).await, ["waiting | forbidden | 7 | - | -"]);
        assert_eq!(database.waiting(Topic::DeadLetters).await.len(), 2);
    })
    .await;
}
