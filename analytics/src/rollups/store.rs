//! The rollups' tables: parts, days and their counts. No other module writes them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use platform::columns;
use platform::postgres::{Failure, GenericClient, Transaction, execute, query};
use serde_json::{Value, json};

use super::compute::CompanyDay;
use super::part::Part;
use crate::lake::manifest::{self, DirtyDay};
use crate::lake::schema;

/// How a computation changed the rollups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Days of companies to which the UTC day adds something.
    pub days: usize,
    /// Of them, those whose numbers are other than before.
    pub changed: u64,
}

/// The most days of companies that one statement writes: they are sent as JSON, some tens of kilobytes each for a busy one.
const MAX_ROWS: usize = 256;

/// Replaces what a UTC day adds to days of companies. `None` if another computation has done it, for the same mark or a
/// later one; the caller then rolls back.
///
/// One computation writes at a time, since two UTC days can add to one day of a company.
///
/// # Errors
/// If Postgres refuses.
pub async fn replace(
    tx: &Transaction<'_>,
    utc_day: DirtyDay,
    parts: &BTreeMap<CompanyDay, Part>,
) -> Result<Option<Changed>, Failure> {
    execute(tx, "select pg_advisory_xact_lock(hashtextextended('secretaria rollups', 0))", &[]).await?;
    let dated = dated(parts)?;
    let mut affected = delete_parts(tx, utc_day.day).await?;
    affected.extend(dated.keys());
    let mut changed = 0;
    for keys in affected.into_iter().collect::<Vec<Key>>().chunks(MAX_ROWS) {
        let ours: BTreeMap<Key, &Part> = keys.iter().filter_map(|it| Some((*it, *dated.get(it)?))).collect();
        let mut days = other_parts(tx, keys).await?;
        insert_parts(tx, utc_day.day, &ours).await?;
        for (key, part) in ours {
            days.entry(key).or_default().merge(part);
        }
        delete_empty(tx, keys, &days).await?;
        changed += upsert(tx, &days).await?;
    }
    // Last, because it locks the day's mark, which archive raises.
    match manifest::computed(tx, utc_day).await? {
        true => Ok(Some(Changed { days: dated.len(), changed })),
        false => Ok(None),
    }
}

/// A company and a day of its own.
type Key = (i64, Date);

fn dated(parts: &BTreeMap<CompanyDay, Part>) -> Result<BTreeMap<Key, &Part>, Failure> {
    let date = |day: i32| schema::date(day).map_err(|it| Failure::Refused(format!("day {day}: {it}")));
    parts.iter().map(|((company, day), part)| Ok(((*company, date(*day)?), part))).collect()
}

async fn delete_parts(tx: &Transaction<'_>, utc_day: Date) -> Result<BTreeSet<Key>, Failure> {
    let sql = "delete from secretaria.rollup_parts where utc_day = $1 returning company_id, day";
    Ok(query(tx, sql, &[&utc_day]).await?.iter().map(|it| (it.get(0), it.get(1))).collect())
}

/// What other UTC days add to these days.
async fn other_parts(tx: &Transaction<'_>, keys: &[Key]) -> Result<BTreeMap<Key, Part>, Failure> {
    let rows = query(
        tx,
        "select company_id, day, part
         from secretaria.rollup_parts
         join unnest($1::bigint[], $2::date[]) as it (company_id, day) using (company_id, day)",
        &columns![keys => |it| it.0, it.1],
    )
    .await?;
    let mut days = BTreeMap::<Key, Part>::new();
    for row in rows {
        days.entry((row.get(0), row.get(1))).or_default().merge(&decoded(row.get(2))?);
    }
    Ok(days)
}

async fn insert_parts(tx: &Transaction<'_>, utc_day: Date, parts: &BTreeMap<Key, &Part>) -> Result<(), Failure> {
    let encoded: Result<Vec<Value>, _> = parts.values().map(serde_json::to_value).collect();
    let encoded = encoded.map_err(|it| Failure::Refused(format!("part of a day: {it}")))?;
    execute(
        tx,
        "insert into secretaria.rollup_parts (company_id, day, utc_day, part)
         select company_id, day, $3, part
         from unnest($1::bigint[], $2::date[], $4::jsonb[]) as it (company_id, day, part)",
        &columns![parts => |it| it.0.0, it.0.1; &utc_day, &encoded],
    )
    .await?;
    Ok(())
}

/// Deletes the days to which nothing adds any more.
async fn delete_empty(tx: &Transaction<'_>, affected: &[Key], days: &BTreeMap<Key, Part>) -> Result<(), Failure> {
    let empty: Vec<Key> = affected.iter().filter(|it| !days.contains_key(it)).copied().collect();
    execute(
        tx,
        "delete from secretaria.rollup_days d
         using unnest($1::bigint[], $2::date[]) as it (company_id, day)
         where d.company_id = it.company_id
           and d.day = it.day",
        &columns![empty => |it| it.0, it.1],
    )
    .await?;
    Ok(())
}

/// Inserts days, or updates those whose numbers differ; a day that is the same is not written. Returns how many differ.
async fn upsert(tx: &Transaction<'_>, days: &BTreeMap<Key, Part>) -> Result<u64, Failure> {
    let rows: Vec<Value> = days.iter().map(|(key, part)| row(*key, part)).collect();
    let rows = query(tx, include_str!("upsert_days.sql"), &[&Value::Array(rows)]).await?;
    let changed: BTreeSet<Key> = rows.iter().map(|it| (it.get(0), it.get(1))).collect();
    execute(
        tx,
        "delete from secretaria.rollup_day_counts c
         using unnest($1::bigint[], $2::date[]) as it (company_id, day)
         where c.company_id = it.company_id
           and c.day = it.day",
        &columns![changed => |it| it.0, it.1],
    )
    .await?;
    let counts: Vec<_> = changed
        .iter()
        .filter_map(|key| days.get_key_value(key))
        .flat_map(|(key, part)| part.counts.iter().map(move |(count, amount)| (key, count, amount)))
        .collect();
    execute(
        tx,
        "insert into secretaria.rollup_day_counts (company_id, day, measure, name, detail, amount)
         select *
         from unnest($1::bigint[], $2::date[], $3::text[], $4::text[], $5::text[], $6::bigint[])",
        &columns![counts => |it|
            it.0.0, it.0.1, it.1.measure.as_str(), it.1.name.as_str(), it.1.detail.as_str(), *it.2],
    )
    .await?;
    Ok(rows.len() as u64)
}

fn row((company, day): Key, part: &Part) -> Value {
    let (buckets, counts) = part.answers.columns();
    let percentile = |share: f64| part.answers.quantile(share);
    json!({
        "company_id": company,
        "day": day,
        "events": part.events,
        "messages_received": part.messages_received,
        "messages_in": part.messages_in,
        "messages_out": part.messages_out,
        "tokens_in": part.tokens_in,
        "tokens_out": part.tokens_out,
        "tokens_cached": part.tokens_cached,
        "model_calls": part.model_calls,
        "cost_usd_micros": part.cost_usd_micros,
        "cost_brl_micros": part.cost_brl_micros,
        "turns": part.turns,
        "turns_replied": part.turns_replied,
        "deliveries": part.deliveries,
        "deliveries_sent": part.deliveries_sent,
        "answers": part.answers.count(),
        "answer_ms_sum": part.answer_ms_sum,
        "answer_p50_ms": percentile(0.5),
        "answer_p95_ms": percentile(0.95),
        "answer_p99_ms": percentile(0.99),
        "answer_buckets": buckets,
        "answer_counts": counts,
        "active_contacts": part.contacts.estimate(),
        "contact_hashes": part.contacts.column(),
    })
}

/// The stored parts of a UTC day.
///
/// # Errors
/// If Postgres refuses, or a part cannot be read.
pub async fn parts(client: &impl GenericClient, utc_day: Date) -> Result<BTreeMap<CompanyDay, Part>, Failure> {
    let sql = "select company_id, day, part from secretaria.rollup_parts where utc_day = $1";
    let rows = query(client, sql, &[&utc_day]).await?;
    rows.iter().map(|it| Ok(((it.get(0), schema::day_number(it.get(1))), decoded(it.get(2))?))).collect()
}

fn decoded(part: Value) -> Result<Part, Failure> {
    serde_json::from_value(part).map_err(|it| Failure::Refused(format!("part of a day: {it}")))
}

/// The time zones of all companies.
///
/// # Errors
/// If Postgres refuses.
pub async fn time_zones(client: &impl GenericClient) -> Result<Vec<(i64, String)>, Failure> {
    let rows = query(client, "select company_id, time_zone from secretaria.companies", &[]).await?;
    Ok(rows.iter().map(|it| (it.get(0), it.get(1))).collect())
}
