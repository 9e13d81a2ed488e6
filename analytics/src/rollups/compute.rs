//! Computes the parts of one UTC day from its files: one scan, one aggregation.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::{as_binary_array, as_date32_array, as_int64_array, as_string_array};
use platform::task::Stop;

use super::aggregates::{self, Sketch};
use super::part::{Cell, Part};
use super::prices::Prices;
use super::zones::Zones;
use crate::lake::engine::{self, Limits};
use crate::lake::manifest::ManifestFile;
use crate::lake::{Error, Lake, query};
use domain::sketch::{Distinct, Durations};

/// A company and a day of its own, in days since 1970.
pub type CompanyDay = (i64, i32);

const CELLS: &str = "\
select company_id, local_day, kind, author, fact, outcome, reason, model,
  count(*) as events,
  coalesce(sum(tokens_in), 0) as tokens_in,
  coalesce(sum(tokens_out), 0) as tokens_out,
  coalesce(sum(tokens_cached), 0) as tokens_cached,
  coalesce(sum(cost_usd(model, local_day, tokens_in, tokens_out, tokens_cached)), 0) as cost_usd,
  coalesce(sum(cost_brl(model, local_day, tokens_in, tokens_out, tokens_cached)), 0) as cost_brl,
  coalesce(sum(duration_ms), 0) as duration_ms,
  durations(duration_ms) as durations,
  contacts(contact_id) as contacts
from (select local_day(company_id, occurred_at) as local_day, * from events)
group by company_id, local_day, kind, author, fact, outcome, reason, model";

/// Computes the parts that these files, all of one UTC day, add to days of companies.
///
/// # Errors
/// If a file is missing or cannot be read, or a limit is reached; or if it was cancelled.
pub async fn parts(
    lake: &Lake,
    files: &[ManifestFile],
    zones: &Zones,
    prices: &Prices,
    limits: &Limits,
    cancelled: &Stop,
) -> Result<BTreeMap<CompanyDay, Part>, Error> {
    let mut parts = BTreeMap::new();
    if files.is_empty() {
        return Ok(parts);
    }
    let session = query::session(lake, files.to_vec(), limits).await?;
    session.register_udf(zones.local_day_udf());
    prices.udfs().into_iter().for_each(|it| session.register_udf(it));
    session.register_udaf(aggregates::durations());
    session.register_udaf(aggregates::contacts());
    let rows = query::select(&session, CELLS).await?;
    engine::drain(rows, limits, cancelled, |batch| add(&mut parts, &batch)).await?;
    Ok(parts)
}

fn add(parts: &mut BTreeMap<CompanyDay, Part>, batch: &RecordBatch) -> Result<(), Error> {
    let number = |name: &str| column(batch, name).and_then(|it| Ok(as_int64_array(it)?));
    let bytes = |name: &str| column(batch, name).and_then(|it| Ok(as_binary_array(it)?));
    let (companies, days) = (number("company_id")?, as_date32_array(column(batch, "local_day")?)?);
    let kinds = texts(batch, "kind")?;
    let [authors, facts, outcomes, reasons, models] = [
        texts(batch, "author")?,
        texts(batch, "fact")?,
        texts(batch, "outcome")?,
        texts(batch, "reason")?,
        texts(batch, "model")?,
    ];
    let text = |column: &StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
    for row in 0..batch.num_rows() {
        let cell = Cell {
            kind: kinds.value(row).to_owned(),
            author: text(&authors, row),
            fact: text(&facts, row),
            outcome: text(&outcomes, row),
            reason: text(&reasons, row),
            model: text(&models, row),
            events: number("events")?.value(row),
            tokens_in: number("tokens_in")?.value(row),
            tokens_out: number("tokens_out")?.value(row),
            tokens_cached: number("tokens_cached")?.value(row),
            cost_usd_micros: number("cost_usd")?.value(row),
            cost_brl_micros: number("cost_brl")?.value(row),
            duration_ms: number("duration_ms")?.value(row),
            durations: Durations::of_bytes(bytes("durations")?.value(row)),
            contacts: Distinct::of_bytes(bytes("contacts")?.value(row)),
        };
        parts.entry((companies.value(row), days.value(row))).or_default().add(&cell);
    }
    Ok(())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a datafusion::arrow::array::ArrayRef, Error> {
    let missing = || datafusion::error::DataFusionError::Internal(format!("the result has no column {name}"));
    Ok(batch.column_by_name(name).ok_or_else(missing)?)
}

/// A column of texts, whichever of Arrow's forms the engine gave it.
fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray, Error> {
    let array = cast(column(batch, name)?, &DataType::Utf8)?;
    Ok(as_string_array(&array)?.clone())
}
