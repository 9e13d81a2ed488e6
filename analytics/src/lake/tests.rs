//! The lake's claims: what is archived is in the manifest once, whatever is repeated, and what is wrong with a file is named.

use std::collections::BTreeMap;

use domain::{CompanyId, Envelope, EventId, EventOutcome, Kind, SCHEMA, Topic};
use jiff::{SignedDuration, Timestamp};
use platform::consumer::{Event, Handler};
use platform::kafka::Record;
use platform::outcomes::Admission;
use platform::task::Stop;
use uuid::Uuid;

use super::archive::{Archive, Config};
use super::engine::{self, Limits};
use super::{Counted, Error, file, manifest, query, schema, verify};
use crate::tests::{Fixture, with_fixture};

/// An event as archive gets it, at an offset of partition 0.
fn event(fixture: &Fixture, id: u128, at: &str, kind: Kind, payload: &str) -> (Record, Envelope<Counted>) {
    let topic = match kind {
        Kind::InboundMessage => Topic::InboundMessages,
        Kind::Usage => Topic::UsageEvents,
        _ => Topic::ActivityEvents,
    };
    let at: Timestamp = at.parse().unwrap();
    let envelope = Envelope {
        schema: SCHEMA,
        event_id: EventId(Uuid::from_u128(id)),
        company_id: CompanyId(7),
        kind,
        occurred_at: at,
        received_at: at,
        payload: serde_json::from_str(payload).unwrap(),
    };
    (Record::kept(topic, 0, fixture.next_offset(), None, None, vec![]), envelope)
}

async fn archive(fixture: &Fixture, events: &[(Record, Envelope<Counted>)]) -> Vec<EventOutcome> {
    let archive = Archive { lake: fixture.lake.clone(), config: Config::default() };
    let events: Vec<Event<'_, Counted>> = events
        .iter()
        .map(|(record, envelope)| Event { envelope: envelope.clone(), record, admission: Admission::New })
        .collect();
    let mut client = fixture.service.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let handled = archive.handle(&tx, &events).await.unwrap();
    tx.commit().await.unwrap();
    handled.outcomes
}

async fn select(fixture: &Fixture, sql: &str) -> Result<Vec<String>, Error> {
    let client = fixture.service.get().await.unwrap();
    let files = manifest::all_files(&client).await.unwrap();
    let limits = Limits::default();
    let session = query::session(&fixture.lake, files, &limits).await?;
    let mut lines = Vec::new();
    let rows = query::select(&session, sql).await?;
    engine::drain(rows, &limits, &Stop::new(), |batch| {
        let text = datafusion::arrow::util::pretty::pretty_format_batches(&[batch])?.to_string();
        lines.extend(text.lines().skip(3).filter(|it| it.starts_with('|')).map(str::to_owned));
        Ok(())
    })
    .await?;
    Ok(lines)
}

#[tokio::test]
async fn events_are_archived_by_day_and_a_repeat_is_dropped() {
    with_fixture(async |fixture| {
        let one = event(
            fixture,
            1,
            "2026-03-01T10:00:00Z",
            Kind::InboundMessage,
            r#"{"content":{"type":"text","body":"oi"}}"#,
        );
        let late = event(fixture, 2, "2026-01-20T10:00:00Z", Kind::Usage, r#"{"fact":"message_in"}"#);
        let mut again = event(
            fixture,
            1,
            "2026-03-01T10:00:00Z",
            Kind::InboundMessage,
            r#"{"content":{"type":"text","body":"oi"}}"#,
        );
        again.1.received_at = "2026-03-01T10:00:09Z".parse().unwrap();
        assert_eq!(archive(fixture, &[again, one, late]).await, [EventOutcome::Done; 3]);
        let files = "select day, origin, events, companies, company_events from lake_files order by day";
        assert_eq!(
            fixture.root.rows(files).await,
            ["2026-01-20 | consumer | 1 | {7} | {1}", "2026-03-01 | consumer | 1 | {7} | {1}"]
        );
        let batch = "select topics, partitions, first_offsets, last_offsets, records, repeats from lake_batches";
        assert_eq!(fixture.root.rows(batch).await, ["{inbound.messages,usage.events} | {0,0} | {0,1} | {2,1} | 3 | 1"]);
        assert_eq!(
            select(fixture, "select kind, characters, received_at from events order by occurred_at").await.unwrap(),
            [
                "| usage           |            | 2026-01-20T10:00:00 |",
                "| inbound_message | 2          | 2026-03-01T10:00:00 |",
            ]
        );
        let again = event(
            fixture,
            1,
            "2026-03-01T10:00:00Z",
            Kind::InboundMessage,
            r#"{"content":{"type":"text","body":"oi"}}"#,
        );
        archive(fixture, &[again]).await;
        let counted = "select (select count(*) from events) as events, (select count(*) from records) as records";
        assert_eq!(select(fixture, counted).await.unwrap(), ["| 2      | 3       |"], "each event once");
        let dirty = "select day from rollup_utc_days where computed_mark < mark order by day";
        assert_eq!(fixture.root.rows(dirty).await, ["2026-01-20", "2026-03-01"]);
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_is_tried_again_replaces_its_files() {
    with_fixture(async |fixture| {
        let one = event(fixture, 1, "2026-03-01T10:00:00Z", Kind::Usage, r#"{"fact":"message_in"}"#);
        // The first transaction is rolled back after the file was written.
        let archive_of = || Archive { lake: fixture.lake.clone(), config: Config::default() };
        let events = [Event { envelope: one.1.clone(), record: &one.0, admission: Admission::New }];
        let mut client = fixture.service.get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        archive_of().handle(&tx, &events).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(fixture.lake.list().await.unwrap().len(), 1, "an orphan until the next try");
        drop(events);
        archive(fixture, &[one]).await;
        assert_eq!(fixture.lake.list().await.unwrap().len(), 1, "the same file");
        assert_eq!(fixture.root.number("select count(*) from lake_files").await, 1);
    })
    .await;
}

#[tokio::test]
async fn missing_and_damaged_files_are_named_and_orphans_are_found() {
    with_fixture(async |fixture| {
        for (id, at) in [(1, "2026-03-01T10:00:00Z"), (2, "2026-03-02T10:00:00Z"), (3, "2026-03-03T10:00:00Z")] {
            archive(fixture, &[event(fixture, id, at, Kind::Usage, r#"{"fact":"message_in"}"#)]).await;
        }
        let client = fixture.service.get().await.unwrap();
        let files = manifest::all_files(&client).await.unwrap();
        fixture.lake.delete(&files[0].path).await.unwrap();
        fixture.lake.put(&files[1].path, "garbage".into()).await.unwrap();
        fixture.lake.put("events/day=2026-03-01/orphan.parquet", "anything".into()).await.unwrap();
        let now = platform::clock::now();
        let findings = verify::verify(&fixture.lake, &files, now, |_| {}).await.unwrap();
        assert_eq!((findings.intact, findings.pending, findings.orphans.len()), (1, 1, 0));
        assert_eq!(
            findings.problems,
            [
                format!("file {} of the lake is missing", files[0].path),
                format!("file {} of the lake is damaged: its 7 bytes are not those that were written", files[1].path),
            ]
        );
        let later = now + SignedDuration::from_hours(2);
        let findings = verify::verify(&fixture.lake, &files, later, |_| {}).await.unwrap();
        assert_eq!((findings.pending, findings.orphans.len()), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn only_queries_are_run() {
    with_fixture(async |fixture| {
        for statement in [
            "create table x as select 1",
            "drop table events",
            "insert into events select * from events",
            "copy events to 'x.csv'",
            "set datafusion.execution.batch_size = 1",
            "create external table x stored as csv location '/etc/passwd'",
            "select * from '/etc/passwd'",
            "select 1; select 2",
        ] {
            assert!(select(fixture, statement).await.is_err(), "{statement}");
        }
        assert_eq!(select(fixture, "select count(*) from events").await.unwrap(), ["| 0        |"]);
    })
    .await;
}

#[tokio::test]
async fn a_query_reads_the_files_of_its_days_only() {
    with_fixture(async |fixture| {
        for (id, at) in [(1, "2026-03-01T10:00:00Z"), (2, "2026-03-02T10:00:00Z")] {
            archive(fixture, &[event(fixture, id, at, Kind::Usage, r#"{"fact":"message_in"}"#)]).await;
        }
        let client = fixture.service.get().await.unwrap();
        let files = manifest::all_files(&client).await.unwrap();
        fixture.lake.delete(&files[1].path).await.unwrap();
        let first_day = "select count(*) from events where day = date '2026-03-01'";
        assert_eq!(select(fixture, first_day).await.unwrap(), ["| 1        |"]);
        let first_hours = "select count(*) from events where occurred_at < timestamp '2026-03-02T00:00:00'";
        assert_eq!(select(fixture, first_hours).await.unwrap(), ["| 1        |"]);
        let both = select(fixture, "select count(*), max(duration_ms) from events").await.unwrap_err();
        assert!(platform::telemetry::chain(&both).contains(&files[1].path), "{both:?}");
    })
    .await;
}

#[test]
fn companies_are_counted_in_the_manifest() {
    let row = |company: i64, event: u128| schema::EventRow {
        company,
        occurred_micros: 1,
        received_micros: 1,
        event: Uuid::from_u128(event),
        topic: Topic::UsageEvents,
        kind: "usage",
        counted: Counted::default(),
    };
    let (files, repeats) = file::files_of(Uuid::nil(), vec![row(2, 1), row(1, 2), row(2, 3), row(2, 1)]).unwrap();
    assert_eq!((files.len(), repeats), (1, 1));
    assert_eq!(files[0].companies, BTreeMap::from([(1, 1), (2, 2)]));
}
