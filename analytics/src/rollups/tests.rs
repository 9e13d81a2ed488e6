//! The rollups' claims: any order, repetition and delay of the same events gives the same rows; what is wrong with a file
//! leaves the rows as they are; a new time zone moves what is near midnight; the numbers are those of the ledger.

use std::sync::Arc;

use domain::{CompanyId, Envelope, EventId, Kind, SCHEMA, Topic};
use jiff::{SignedDuration, Timestamp};
use platform::task::Stop;
use platform::telemetry::chain;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as Runs, TestRunner};
use serde_json::json;
use uuid::Uuid;

use super::{Comparison, Rollups, verify};
use crate::lake::engine::Limits;
use crate::lake::schema::EventRow;
use crate::lake::{Counted, compaction, file, manifest, verify as lake_verify};
use crate::tests::{Fixture, with_fixture};

fn rollups(fixture: &Fixture) -> Rollups {
    Rollups { lake: fixture.lake.clone(), db: fixture.service.clone(), limits: Arc::new(Limits::default()) }
}

/// Event number `n` of a company: of every kind that is counted, through three days.
fn event(company: i64, n: u128) -> EventRow {
    let begin: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let at = begin + SignedDuration::from_mins(i64::try_from(n % 97).unwrap() * 47);
    let contact = Uuid::new_v5(&Uuid::nil(), &(n % 7).to_be_bytes());
    let (topic, kind, payload) = match n % 6 {
        0 => (Topic::InboundMessages, Kind::InboundMessage, json!({"content": {"type": "text", "body": "oi"}})),
        1 => (Topic::UsageEvents, Kind::Usage, json!({"fact": "message_in"})),
        2 => (Topic::UsageEvents, Kind::Usage, json!({"fact": "message_out"})),
        3 => (
            Topic::UsageEvents,
            Kind::Usage,
            json!({"fact": "model_tokens", "model": "gemini-2.5-flash", "input": 1_000 + n, "output": 100, "cached": 10}),
        ),
        4 => (
            Topic::ActivityEvents,
            Kind::TurnEnded,
            json!({"turn_id": contact, "contact_id": contact, "outcome": if n.is_multiple_of(4) { "ignored" } else { "replied" },
                "reason": null, "answer_ms": 500 + n * 13}),
        ),
        _ => (
            Topic::ActivityEvents,
            Kind::DeliveryEnded,
            json!({"delivery_id": contact, "outcome": "sent", "attempts": 1, "took_ms": n}),
        ),
    };
    let envelope: Envelope<Counted> = Envelope {
        schema: SCHEMA,
        event_id: EventId(Uuid::from_u128(n * 1_000 + u128::from(company.unsigned_abs()))),
        company_id: CompanyId(company),
        kind,
        occurred_at: at,
        received_at: at,
        payload: serde_json::from_value(payload).unwrap(),
    };
    EventRow::of(topic, &envelope)
}

/// Archives events as one batch of their own.
async fn archive(fixture: &Fixture, events: Vec<EventRow>) {
    let batch = Uuid::new_v5(&Uuid::nil(), &fixture.next_offset().to_be_bytes());
    let (files, _) = file::files_of(batch, events).unwrap();
    for file in &files {
        fixture.lake.put(&file.path(), file.bytes.clone()).await.unwrap();
    }
    let mut client = fixture.service.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    manifest::add_files(&tx, "consumer", None, &files).await.unwrap();
    tx.commit().await.unwrap();
}

async fn refresh(fixture: &Fixture) {
    let rollups = rollups(fixture);
    for day in rollups.all_dirty().await.unwrap() {
        rollups.compute(day, &Stop::new()).await.unwrap();
    }
    assert!(rollups.all_dirty().await.unwrap().is_empty());
}

/// Merges the files of every day into one.
async fn compact(fixture: &Fixture) {
    let client = fixture.service.get().await.unwrap();
    for day in manifest::days_between(&client, None, None).await.unwrap() {
        rollups(fixture).compact(day, 2, &Stop::new()).await.unwrap();
    }
}

/// Every number of every rollup.
async fn everything(fixture: &Fixture) -> Vec<String> {
    let days = "select to_jsonb(d) - 'version' - 'computed_at' from rollup_days d order by company_id, day";
    let counts = "select to_jsonb(c) from rollup_day_counts c order by company_id, day, measure, name, detail";
    let mut all = fixture.root.rows(days).await;
    all.extend(fixture.root.rows(counts).await);
    all
}

async fn clear(fixture: &Fixture) {
    fixture.root.run("truncate lake_files, rollup_utc_days, rollup_parts, rollup_days cascade").await;
}

#[tokio::test]
async fn a_day_has_the_numbers_of_its_events() {
    with_fixture(async |fixture| {
        fixture.root.run("insert into ai_model_prices values ('gemini-2.5-flash', '2020-01-01', 300000, 2500000, 75000, 5400000) on conflict (model, since) do nothing").await;
        archive(fixture, (0..97).map(|n| event(7, n)).collect()).await;
        refresh(fixture).await;
        let sums = "select sum(events), sum(messages_received), sum(messages_in), sum(messages_out), sum(model_calls),
              sum(tokens_in), sum(tokens_cached), sum(turns), sum(turns_replied), sum(deliveries_sent), sum(answers)
            from rollup_days where company_id = 7";
        // Of 97 events 17 have n % 6 = 0 and 16 each of the others; of n % 6 = 4 every second one is divisible by 4.
        let tokens: u128 = (0..97).filter(|it| it % 6 == 3).map(|it| 1_000 + it).sum();
        assert_eq!(fixture.root.rows(sums).await, [format!("97 | 17 | 16 | 16 | 16 | {tokens} | 160 | 16 | 8 | 16 | 8")]);
        let cost: u128 = (0..97)
            .filter(|it| it % 6 == 3)
            .map(|it| ((1_000 + it - 10) * 300_000 + 10 * 75_000 + 100 * 2_500_000 + 500_000) / 1_000_000)
            .sum();
        assert_eq!(fixture.root.number("select sum(cost_usd_micros)::bigint from rollup_days").await, i64::try_from(cost).unwrap());
        let by_outcome = "select name, sum(amount) from rollup_day_counts where measure = 'turn_outcome' group by 1 order by 1";
        assert_eq!(fixture.root.rows(by_outcome).await, ["ignored | 8", "replied | 8"]);
    })
    .await;
}

#[test]
fn any_order_repetition_and_delay_gives_the_same_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(with_fixture(async |fixture| {
        fixture
            .root
            .run(
                "insert into companies (company_id, domain, name, time_zone) overriding system value
            values (7, 'seven.test', 'Seven', 'America/Sao_Paulo'), (8, 'eight.test', 'Eight', 'Asia/Kathmandu')",
            )
            .await;
        let mut events: Vec<EventRow> = (0..150).flat_map(|n| [event(7, n), event(8, n)]).collect();
        // One that is said to have occurred on both sides of midnight, as a webhook without a time that is sent again.
        let mut twice = event(7, 151);
        for at in ["2026-03-01T23:59:58Z", "2026-03-02T00:00:01Z"] {
            twice.occurred_micros = at.parse::<Timestamp>().unwrap().as_microsecond();
            events.push(twice.clone());
        }
        archive(fixture, events.clone()).await;
        refresh(fixture).await;
        let expected = everything(fixture).await;
        assert!(expected.len() > 20, "{expected:?}");
        let mut runner = TestRunner::new(Runs { failure_persistence: None, ..Runs::with_cases(1) });
        let batches = (Just(events.clone()).prop_shuffle(), prop::collection::vec(0..events.len(), 1..40), 1..8usize);
        for _ in 0..6 {
            let (shuffled, repeated, cuts) = batches.new_tree(&mut runner).unwrap().current();
            clear(fixture).await;
            let size = shuffled.len() / cuts + 1;
            for (nth, batch) in shuffled.chunks(size).enumerate() {
                let again = repeated.iter().map(|it| {
                    let mut event = events[*it].clone();
                    // The same event, received once more.
                    event.received_micros += 1;
                    event
                });
                archive(fixture, batch.iter().cloned().chain(again).collect()).await;
                // The rollups are computed now and then, and small files are merged.
                if nth % 2 == 0 {
                    refresh(fixture).await;
                }
                if nth % 3 == 1 {
                    compact(fixture).await;
                }
            }
            refresh(fixture).await;
            assert_eq!(everything(fixture).await, expected);
        }
    }));
}

#[tokio::test]
async fn a_day_whose_file_is_missing_or_damaged_keeps_its_numbers() {
    with_fixture(async |fixture| {
        archive(fixture, (0..97).map(|n| event(7, n)).collect()).await;
        refresh(fixture).await;
        let before = everything(fixture).await;
        let rollups = rollups(fixture);
        let client = fixture.service.get().await.unwrap();
        let files = manifest::all_files(&client).await.unwrap();
        manifest::mark(&client, &[files[0].day]).await.unwrap();
        let day = rollups.all_dirty().await.unwrap()[0];
        fixture.lake.put(&files[0].path, "garbage".into()).await.unwrap();
        let damaged = chain(&rollups.compute(day, &Stop::new()).await.unwrap_err());
        assert!(damaged.contains(&files[0].path) && damaged.contains("damaged"), "{damaged}");
        fixture.lake.delete(&files[0].path).await.unwrap();
        let missing = chain(&rollups.compute(day, &Stop::new()).await.unwrap_err());
        assert!(missing.contains(&files[0].path) && missing.contains("missing"), "{missing}");
        assert_eq!(everything(fixture).await, before);
        assert_eq!(rollups.all_dirty().await.unwrap(), [day], "it stays dirty");
    })
    .await;
}

#[tokio::test]
async fn a_new_time_zone_computes_the_companys_days_again() {
    with_fixture(async |fixture| {
        fixture
            .root
            .run(
                "insert into companies (company_id, domain, name, time_zone) overriding system value
            values (7, 'seven.test', 'Seven', 'America/Sao_Paulo')",
            )
            .await;
        archive(fixture, (0..97).map(|n| event(7, n)).collect()).await;
        // A day on which another company alone has an event.
        let mut other = event(8, 1);
        other.occurred_micros = "2026-04-01T12:00:00Z".parse::<Timestamp>().unwrap().as_microsecond();
        archive(fixture, vec![other]).await;
        refresh(fixture).await;
        let days = "select min(day), max(day), sum(events) from rollup_days where company_id = 7";
        assert_eq!(fixture.root.rows(days).await, ["2026-02-28 | 2026-03-04 | 97"]);
        fixture.root.run("update companies set time_zone = 'Pacific/Auckland' where company_id = 7").await;
        assert_eq!(rollups(fixture).all_dirty().await.unwrap().len(), 4, "every day with events of the company");
        refresh(fixture).await;
        assert_eq!(fixture.root.rows(days).await, ["2026-03-01 | 2026-03-04 | 97"]);
    })
    .await;
}

#[tokio::test]
async fn a_later_event_raises_the_version_and_a_repeat_does_not() {
    with_fixture(async |fixture| {
        archive(fixture, vec![event(7, 0), event(7, 1)]).await;
        refresh(fixture).await;
        archive(fixture, vec![event(7, 1)]).await;
        refresh(fixture).await;
        let versions = "select day, version, events from rollup_days order by day";
        assert_eq!(fixture.root.rows(versions).await, ["2026-03-01 | 1 | 2"]);
        archive(fixture, vec![event(7, 2)]).await;
        refresh(fixture).await;
        assert_eq!(fixture.root.rows(versions).await, ["2026-03-01 | 2 | 3"]);
    })
    .await;
}

/// Two compute the same day: the one that read the manifest first commits last.
#[tokio::test]
async fn a_computation_that_was_overtaken_changes_nothing() {
    with_fixture(async |fixture| {
        archive(fixture, vec![event(7, 0)]).await;
        let rollups = rollups(fixture);
        let early = rollups.all_dirty().await.unwrap()[0];
        archive(fixture, vec![event(7, 1)]).await;
        let late = rollups.all_dirty().await.unwrap()[0];
        assert!(late.mark > early.mark);
        let computed = rollups.compute(late, &Stop::new()).await.unwrap();
        assert_eq!(computed.changed.map(|it| it.changed), Some(1));
        assert_eq!(rollups.compute(early, &Stop::new()).await.unwrap().changed, None);
        assert_eq!(rollups.compute(late, &Stop::new()).await.unwrap().changed, None);
        assert_eq!(fixture.root.number("select events from rollup_days").await, 2);
    })
    .await;
}

#[tokio::test]
async fn merged_files_hold_the_same_events_and_the_old_ones_are_deleted_later() {
    with_fixture(async |fixture| {
        for n in 0..5 {
            archive(fixture, vec![event(7, n), event(8, 3)]).await;
        }
        refresh(fixture).await;
        let before = everything(fixture).await;
        compact(fixture).await;
        let files = "select origin, count(*), sum(events), count(replaced_at) from lake_files group by 1 order by 1";
        assert_eq!(fixture.root.rows(files).await, ["compaction | 1 | 6 | 0", "consumer | 5 | 10 | 5"]);
        assert!(rollups(fixture).all_dirty().await.unwrap().is_empty(), "the numbers are the same");
        let client = fixture.service.get().await.unwrap();
        let days = manifest::days_between(&client, None, None).await.unwrap();
        manifest::mark(&client, &days).await.unwrap();
        refresh(fixture).await;
        assert_eq!(everything(fixture).await, before);

        assert_eq!(compaction::delete_replaced(&fixture.lake, &fixture.service).await.unwrap(), 0, "not yet");
        fixture
            .root
            .run("update lake_files set replaced_at = now() - interval '61 minutes' where replaced_at is not null")
            .await;
        assert_eq!(compaction::delete_replaced(&fixture.lake, &fixture.service).await.unwrap(), 5);
        assert_eq!(fixture.lake.list().await.unwrap().len(), 1);
        let known = manifest::all_files(&client).await.unwrap();
        let found = lake_verify::verify(&fixture.lake, &known, platform::clock::now(), |_| {}).await.unwrap();
        assert_eq!((found.intact, found.problems.len(), found.pending), (1, 0, 0));
    })
    .await;
}

/// Two processes merge the same files: the one that is late leaves an orphan and changes nothing.
#[tokio::test]
async fn files_are_replaced_once() {
    with_fixture(async |fixture| {
        for n in 0..3 {
            archive(fixture, vec![event(7, n)]).await;
        }
        let client = fixture.service.get().await.unwrap();
        let days = manifest::days_between(&client, None, None).await.unwrap();
        let (one, other) = (rollups(fixture), rollups(fixture));
        let stop = Stop::new();
        let (one, other) = tokio::join!(one.compact(days[0], 2, &stop), other.compact(days[0], 2, &stop));
        assert_eq!(one.unwrap() + other.unwrap(), 3);
        let events = "select sum(events)::bigint from lake_files where replaced_at is null";
        assert_eq!(fixture.root.number(events).await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_computation_changes_nothing() {
    with_fixture(async |fixture| {
        archive(fixture, vec![event(7, 0)]).await;
        let (rollups, cancelled) = (rollups(fixture), Stop::new());
        let day = rollups.all_dirty().await.unwrap()[0];
        cancelled.cancel();
        assert_eq!(rollups.compute(day, &cancelled).await.unwrap_err().to_string(), "query was cancelled");
        assert_eq!(rollups.all_dirty().await.unwrap(), [day]);
    })
    .await;
}

#[tokio::test]
async fn the_rollups_are_compared_with_the_ledger_and_with_the_lake() {
    with_fixture(async |fixture| {
        archive(fixture, (0..97).map(|n| event(7, n)).collect()).await;
        refresh(fixture).await;
        let client = fixture.service.get().await.unwrap();
        fixture
            .root
            .run(
                "
            insert into usage_totals (company_id, metric, day, amount)
            select company_id, 'message_in', day, messages_in from rollup_days where messages_in > 0
            union all select company_id, 'message_out', day, messages_out from rollup_days where messages_out > 0
            union all select company_id, 'tokens_in', day, tokens_in from rollup_days where tokens_in > 0
            union all select company_id, 'tokens_out', day, tokens_out from rollup_days where tokens_out > 0
            union all select company_id, 'tokens_cached', day, tokens_cached from rollup_days where tokens_cached > 0",
            )
            .await;
        assert!(verify::against_ledger(&client).await.unwrap().is_empty());
        assert!(verify::against_parts(&client).await.unwrap().is_empty());
        let rollups = rollups(fixture);
        for day in rollups.clean_days().await.unwrap() {
            assert_eq!(rollups.compare(day, &Stop::new()).await.unwrap(), Comparison::Compared(vec![]));
        }
        fixture
            .root
            .run("update usage_totals set amount = amount + 1 where metric = 'message_out' and day = '2026-03-03'")
            .await;
        let found = verify::against_ledger(&client).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("company 7, 2026-03-03, message_out: the rollup has "), "{found:?}");
        fixture
            .root
            .run("update rollup_parts set part = jsonb_set(part, '{events}', '0') where utc_day = '2026-03-02'")
            .await;
        let found = rollups.compare("2026-03-02".parse().unwrap(), &Stop::new()).await.unwrap();
        let Comparison::Compared(found) = found else { panic!("the day is clean") };
        assert!(!found.is_empty() && found[0].contains("has other numbers"), "{found:?}");
        assert!(!verify::against_parts(&client).await.unwrap().is_empty(), "what is served differs from the part");
        manifest::mark(&client, &["2026-03-02".parse().unwrap()]).await.unwrap();
        let dirty = rollups.compare("2026-03-02".parse().unwrap(), &Stop::new()).await.unwrap();
        assert_eq!(dirty, Comparison::Dirty);
    })
    .await;
}
