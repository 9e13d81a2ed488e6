//! The outbox: entries pushed in one transaction are published in that order, or not at all.

use domain::{CompanyId, Envelope, EventId, Fact, Kind, SCHEMA, Topic, UsageEvent, header};
use jiff::Timestamp;
use platform::outbox::{self, Entry};
use uuid::Uuid;

use super::database::in_a_database;

fn entry(company: i64, event: u128, subject: &str) -> Entry {
    let at = Timestamp::from_microsecond(1_760_000_000_000_000).unwrap();
    let envelope = Envelope {
        schema: SCHEMA,
        event_id: EventId(Uuid::from_u128(event)),
        company_id: CompanyId(company),
        kind: Kind::Usage,
        occurred_at: at,
        received_at: at,
        payload: UsageEvent { fact: Fact::MessageIn },
    };
    Entry::of_event(Topic::UsageEvents, subject, (3, 2), &envelope, Some("00-trace-01")).unwrap()
}

#[test]
fn the_headers_of_a_record_hold_what_is_needed_to_route_count_and_trace_it() {
    let entry = entry(42, 1, "");
    let headers: Vec<String> =
        entry.headers.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect();
    assert_eq!(
        headers,
        [
            "company=42",
            "event_id=00000000-0000-0000-0000-000000000001",
            "kind=usage",
            "schema=1",
            "epoch=2",
            "occurred_at=1760000000000000",
            "received_at=1760000000000000",
            "traceparent=00-trace-01",
        ]
    );
    assert_eq!((entry.key.as_slice(), entry.spread), (b"42".as_slice(), 3));
    let read: Envelope<UsageEvent> = Envelope::read(&entry.payload, &[Kind::Usage]).unwrap();
    assert_eq!(read.payload.fact, Fact::MessageIn);
}

#[test]
fn a_record_with_a_subject_is_keyed_by_company_and_subject() {
    let entry = entry(42, 1, "551199990001");
    assert_eq!(String::from_utf8(entry.key).unwrap(), "42/551199990001");
    assert_eq!(entry.subject, "551199990001");
}

#[tokio::test]
async fn what_is_pushed_is_published_in_that_order() {
    in_a_database(async |database| {
        // Descending ids and alternating companies: neither decides the order.
        let entries: Vec<Entry> = (0..200).map(|it| entry(1 + i64::from(it % 3), 1_000 - it as u128, "x")).collect();
        let mut client = database.service.get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        outbox::push(&tx, &entries[..120]).await.unwrap();
        outbox::push(&tx, &[]).await.unwrap();
        outbox::push(&tx, &entries[120..]).await.unwrap();
        tx.commit().await.unwrap();

        let pushed: Vec<EventId> = entries.iter().map(|it| it.event).collect();
        assert_eq!(database.waiting(Topic::UsageEvents).await, pushed);
        let records = database.publish(Topic::UsageEvents).await;
        let first = &records[0];
        assert_eq!(first.key.as_deref(), Some(entries[0].key.as_slice()));
        assert_eq!(first.payload.as_deref(), Some(entries[0].payload.as_slice()));
        assert_eq!(first.headers, entries[0].headers);
        assert_eq!(first.header_text(header::EPOCH), Some("2"));
    })
    .await;
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published() {
    in_a_database(async |database| {
        let mut client = database.service.get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        outbox::push(&tx, &[entry(1, 1, "x")]).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(database.waiting(Topic::UsageEvents).await, []);
    })
    .await;
}
