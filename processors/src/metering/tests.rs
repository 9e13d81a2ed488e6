//! metering's claims: every fact is booked once, on the company's own day, and the sums agree with the ledger.

use domain::{CompanyId, Envelope, EventId, Fact, Kind, SCHEMA, Topic, UsageEvent};
use futures_util::future::join_all;
use jiff::Timestamp;
use platform::kafka::Record;
use platform::outcomes::Admission;
use uuid::Uuid;

use super::UsageHandler;
use super::decide::line;
use crate::ledger::{self, LedgerLine};
use crate::tests::{Fixture, noon, with_fixture};

fn envelope(company: CompanyId, event: u128, at: Timestamp, fact: Fact) -> Envelope<UsageEvent> {
    Envelope {
        schema: SCHEMA,
        event_id: EventId(Uuid::from_u128(event)),
        company_id: company,
        kind: Kind::Usage,
        occurred_at: at,
        received_at: at,
        payload: UsageEvent { fact },
    }
}

fn tokens(model: &str, input: i64, output: i64, cached: i64) -> Fact {
    Fact::ModelTokens { model: model.into(), input, output, cached }
}

async fn book(fixture: &Fixture, lines: &[LedgerLine]) {
    let mut client = fixture.db().get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    ledger::book(&tx, lines).await.unwrap();
    tx.commit().await.unwrap();
}

fn records(fixture: &Fixture, envelopes: &[Envelope<UsageEvent>]) -> Vec<Record> {
    envelopes.iter().map(|it| fixture.record(Topic::UsageEvents, "", it)).collect()
}

async fn ledger(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select fact, model, amount, day from usage_events order by idempotency_key").await
}

async fn totals(fixture: &Fixture) -> Vec<String> {
    fixture.rows("select metric, model, day, amount from usage_totals order by company_id, metric, model, day").await
}

#[tokio::test]
async fn a_fact_that_arrives_twice_is_booked_once() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let fact_line = line(&envelope(clinic, 1, noon(), tokens("m", 100, 10, 4)));
        book(fixture, &[fact_line.clone(), fact_line.clone()]).await;
        book(fixture, std::slice::from_ref(&fact_line)).await;
        book(fixture, &[]).await;
        assert_eq!(ledger(fixture).await, ["model_tokens | m | 110 | 2026-03-15"]);
        let sums = [
            "tokens_cached | m | 2026-03-15 | 4",
            "tokens_in | m | 2026-03-15 | 100",
            "tokens_out | m | 2026-03-15 | 10",
        ];
        assert_eq!(totals(fixture).await, sums);

        let batch = records(
            fixture,
            &[envelope(clinic, 2, noon(), Fact::MessageIn), envelope(clinic, 1, noon(), tokens("m", 100, 10, 4))],
        );
        assert_eq!(fixture.consume(&UsageHandler, &batch).await.unwrap(), [Admission::New; 2]);
        assert_eq!(fixture.consume(&UsageHandler, &batch).await.unwrap(), [Admission::Duplicate; 2]);
        assert_eq!(ledger(fixture).await.len(), 2, "the first one's key is in the ledger already");
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn another_fact_under_a_booked_key_is_refused_and_blames_the_data() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        book(fixture, &[line(&envelope(clinic, 1, noon(), Fact::MessageOut))]).await;
        let batch = records(fixture, &[envelope(clinic, 1, noon(), Fact::MessageIn)]);
        let refusal = fixture.consume(&UsageHandler, &batch).await.unwrap_err();
        assert!(refusal.blames_the_data(), "so the consumer dead-letters it: {refusal:?}");
        assert_eq!(ledger(fixture).await, ["message_out |  | 1 | 2026-03-15"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn the_same_key_at_two_companies_is_two_facts() {
    with_fixture(async |fixture| {
        let (clinic, salon) = (fixture.company("clinica.test").await, fixture.company("salao.test").await);
        let of_company = |company| line(&envelope(company, 1, noon(), Fact::MessageOut));
        book(fixture, &[of_company(clinic), of_company(salon)]).await;
        assert_eq!(ledger(fixture).await.len(), 2);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn the_sums_agree_with_the_ledger_under_concurrent_writers() {
    with_fixture(async |fixture| {
        fixture.open_connections().await;
        let companies =
            [fixture.company("a.test").await, fixture.company("b.test").await, fixture.company("c.test").await];
        let fact = |it: u128| match it % 4 {
            0 => Fact::MessageIn,
            1 => Fact::MessageOut,
            2 => tokens("m", 10, 1, 0),
            _ => tokens("n", 0, 0, 0),
        };
        let all: Vec<LedgerLine> =
            (0..400).map(|it| line(&envelope(companies[it as usize % 3], it, noon(), fact(it / 3)))).collect();
        // Twelve writers at once, in two directions, and each fact in two of them.
        let backwards: Vec<LedgerLine> = all.iter().rev().cloned().collect();
        let writers = all.chunks(70).chain(backwards.chunks(70)).map(|lines| book(fixture, lines));
        join_all(writers).await;
        let sums = "select metric, model, sum(amount) from usage_totals group by 1, 2 order by 1, 2";
        let expected = ["message_in |  | 102", "message_out |  | 100", "tokens_in | m | 990", "tokens_out | m | 99"];
        assert_eq!(fixture.rows(sums).await, expected);
        assert_eq!(fixture.rows("select count(*) from usage_events").await, ["400"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_day_is_that_of_the_company() {
    with_fixture(async |fixture| {
        let here = fixture.company("clinica.test").await;
        let (west, east) = (
            fixture.company_in("acre.test", "America/Rio_Branco").await,
            fixture.company_in("toquio.test", "Asia/Tokyo").await,
        );
        // Half past eleven at night in São Paulo is the next day in UTC.
        let late: Timestamp = "2026-03-15T23:30:00-03:00".parse().unwrap();
        assert_eq!(late.to_string(), "2026-03-16T02:30:00Z");
        let companies = [here, west, east, CompanyId(404)];
        let lines: Vec<LedgerLine> = companies
            .iter()
            .zip(1..)
            .map(|(&company, it)| line(&envelope(company, it, late, Fact::MessageIn)))
            .collect();
        book(fixture, &lines).await;
        let days = fixture.rows("select day from usage_events order by idempotency_key").await;
        assert_eq!(
            days,
            ["2026-03-15", "2026-03-15", "2026-03-16", "2026-03-16"],
            "an unknown company's day is that of UTC"
        );
        let half_an_hour_later = "2026-03-16T00:00:00-03:00".parse().unwrap();
        book(fixture, &[line(&envelope(here, 9, half_an_hour_later, Fact::MessageIn))]).await;
        let days = format!("select day, amount from usage_totals where company_id = {here} order by day");
        assert_eq!(fixture.rows(&days).await, ["2026-03-15 | 1", "2026-03-16 | 1"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn usage_of_an_unknown_company_is_booked_too() {
    with_fixture(async |fixture| {
        let batch = records(fixture, &[envelope(CompanyId(404), 1, noon(), Fact::MessageOut)]);
        fixture.consume(&UsageHandler, &batch).await.unwrap();
        assert_eq!(totals(fixture).await, ["message_out |  | 2026-03-15 | 1"]);
        assert_eq!(fixture.rows("select processor, state from event_outcomes").await, ["metering | done"]);
        fixture.conserves().await;
    })
    .await;
}

#[tokio::test]
async fn a_negative_amount_is_refused_and_blames_the_data() {
    with_fixture(async |fixture| {
        let clinic = fixture.company("clinica.test").await;
        let batch = records(fixture, &[envelope(clinic, 1, noon(), tokens("m", -5, 1, 0))]);
        let refusal = fixture.consume(&UsageHandler, &batch).await.unwrap_err();
        assert!(refusal.blames_the_data(), "so the consumer dead-letters it: {refusal:?}");
    })
    .await;
}
