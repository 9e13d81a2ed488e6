//! Reads the days of a company as they are stored. Under row-level security these are the days of the transaction's company.

use std::collections::{BTreeMap, BTreeSet};

use domain::CompanyId;
use domain::sketch::{Distinct, Durations};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use platform::postgres::{Error, GenericClient, query};

use super::part::{CountKey, Part};

/// A day as it is stored; several days add up.
#[derive(Debug, Clone, Default)]
pub struct StoredDay {
    pub part: Part,
    /// Rises when a later computation gives other numbers.
    pub version: i32,
    pub computed_at: Option<Timestamp>,
}

impl StoredDay {
    fn merge(&mut self, other: &StoredDay) {
        self.part.merge(&other.part);
        self.version = self.version.max(other.version);
        self.computed_at = self.computed_at.max(other.computed_at);
    }
}

/// The days of a span that have events, both ends included, without what is counted by parts.
///
/// # Errors
/// If Postgres refuses.
pub async fn days(
    client: &impl GenericClient,
    company: CompanyId,
    from: Date,
    to: Date,
) -> Result<BTreeMap<Date, StoredDay>, Error> {
    let sql = "
        select day, version, computed_at, events, messages_received, messages_in, messages_out, model_calls, tokens_in,
          tokens_out, tokens_cached, cost_usd_micros, cost_brl_micros, turns, turns_replied, deliveries, deliveries_sent,
          answer_ms_sum, answer_buckets, answer_counts, contact_hashes
        from secretaria.rollup_days
        where company_id = $1
          and day between $2 and $3";
    let mut days = BTreeMap::new();
    for row in query(client, sql, &[&company.0, &from, &to]).await? {
        let (buckets, counts): (Vec<i32>, Vec<i64>) = (row.try_get("answer_buckets")?, row.try_get("answer_counts")?);
        let hashes: Vec<i64> = row.try_get("contact_hashes")?;
        let part = Part {
            events: row.try_get("events")?,
            messages_received: row.try_get("messages_received")?,
            messages_in: row.try_get("messages_in")?,
            messages_out: row.try_get("messages_out")?,
            tokens_in: row.try_get("tokens_in")?,
            tokens_out: row.try_get("tokens_out")?,
            tokens_cached: row.try_get("tokens_cached")?,
            model_calls: row.try_get("model_calls")?,
            cost_usd_micros: row.try_get("cost_usd_micros")?,
            cost_brl_micros: row.try_get("cost_brl_micros")?,
            turns: row.try_get("turns")?,
            turns_replied: row.try_get("turns_replied")?,
            deliveries: row.try_get("deliveries")?,
            deliveries_sent: row.try_get("deliveries_sent")?,
            answer_ms_sum: row.try_get("answer_ms_sum")?,
            answers: Durations::of_columns(&buckets, &counts),
            contacts: Distinct::of_column(&hashes),
            counts: BTreeMap::new(),
        };
        let (version, computed_at) = (row.try_get("version")?, Some(row.try_get("computed_at")?));
        days.insert(row.try_get("day")?, StoredDay { part, version, computed_at });
    }
    Ok(days)
}

/// The days from one to another, both included, added up.
pub fn sum(days: &BTreeMap<Date, StoredDay>, from: Date, to: Date) -> StoredDay {
    let mut sum = StoredDay::default();
    days.range(from..=to).for_each(|(_, day)| sum.merge(day));
    sum
}

/// What is counted by parts over a span: turns by outcome and reason, deliveries by outcome, tokens and cost by model.
///
/// # Errors
/// If Postgres refuses.
pub async fn counts(
    client: &impl GenericClient,
    company: CompanyId,
    from: Date,
    to: Date,
) -> Result<BTreeMap<CountKey, i64>, Error> {
    let sql = "
        select measure, name, detail, sum(amount)::bigint
        from secretaria.rollup_day_counts
        where company_id = $1
          and day between $2 and $3
        group by measure, name, detail";
    let rows = query(client, sql, &[&company.0, &from, &to]).await?;
    let key = |row: &tokio_postgres::Row| CountKey { measure: row.get(0), name: row.get(1), detail: row.get(2) };
    Ok(rows.iter().map(|row| (key(row), row.get(3))).collect())
}

/// The UTC days around a span whose rollups do not have their latest events.
///
/// # Errors
/// If Postgres refuses.
pub async fn dirty(client: &impl GenericClient, from: Date, to: Date) -> Result<BTreeSet<Date>, Error> {
    let sql = "
        select day
        from secretaria.rollup_utc_days
        where computed_mark < mark
          and day between $1::date - 1 and $2::date + 1";
    Ok(query(client, sql, &[&from, &to]).await?.iter().map(|it| it.get(0)).collect())
}

/// How long after its end a day counts as over: events that arrive later still are added, and raise its version.
pub const LATENESS: SignedDuration = SignedDuration::from_hours(1);

/// Whether the days to `to` ended at least [`LATENESS`] ago and no UTC day that they span is dirty. That archive has read
/// everything until then is not known here.
pub fn is_final(from: Date, to: Date, now: Timestamp, time_zone: &TimeZone, dirty: &BTreeSet<Date>) -> bool {
    let end = to.tomorrow().ok().and_then(|it| it.to_zoned(time_zone.clone()).ok());
    let is_over = end.is_some_and(|it| it.timestamp().saturating_add(LATENESS).is_ok_and(|it| it <= now));
    let day = Span::new().days(1);
    is_over && dirty.range(from.saturating_sub(day)..=to.saturating_add(day)).next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_final_an_hour_after_its_end_where_the_company_is_and_when_nothing_is_dirty() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let is_final = |now: &str, dirty: &[&str]| {
            let day = "2026-03-01".parse().unwrap();
            is_final(day, day, now.parse().unwrap(), &zone, &dirty.iter().map(|it| it.parse().unwrap()).collect())
        };
        assert!(!is_final("2026-03-02T03:59:59Z", &[]));
        assert!(is_final("2026-03-02T04:00:00Z", &[]));
        assert!(!is_final("2026-03-02T04:00:00Z", &["2026-03-02"]), "it may have events of the first of March");
        assert!(is_final("2026-03-02T04:00:00Z", &["2026-03-03", "2026-02-27"]));
    }
}
