//! A file of the lake: the events of one UTC day, each once, sorted by company and time.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::WriterProperties;
use jiff::civil::Date;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Error;
use super::schema::{self, EventRow};

/// Rows of a row group, so that a company's events are in few of them.
pub const ROW_GROUP_ROWS: usize = 65_536;

/// A file, and what the manifest says of it.
#[derive(Debug, Clone)]
pub struct NewFile {
    pub id: Uuid,
    pub day: Date,
    pub bytes: Bytes,
    pub sha256: [u8; 32],
    pub events: i64,
    /// How many events it has of each company.
    pub companies: BTreeMap<i64, i64>,
    pub first_micros: i64,
    pub last_micros: i64,
}

impl NewFile {
    /// Its name in the store.
    pub fn path(&self) -> String {
        path_of(self.day, self.id)
    }
}

/// The name of a file in the store.
pub fn path_of(day: Date, id: Uuid) -> String {
    format!("events/day={day}/{id}.parquet")
}

/// Writes events into a file for each of their days; returns the files and how many events were repeats.
///
/// A file is named after its batch, its day and its bytes, so that one that is written again is the same one. Of two events
/// of a day with one id the one that occurred and was received first is kept.
///
/// # Errors
/// If Parquet refuses the rows.
pub fn files_of(batch: Uuid, rows: Vec<EventRow>) -> Result<(Vec<NewFile>, u64), Error> {
    let before = rows.len();
    let mut rows = without_repeats(rows);
    let repeats = (before - rows.len()) as u64;
    rows.sort_unstable_by_key(|it| (it.day(), it.sort_key()));
    let files = rows.chunk_by(|a, b| a.day() == b.day()).map(|day| file_of(batch, day));
    Ok((files.collect::<Result<_, _>>()?, repeats))
}

fn without_repeats(rows: Vec<EventRow>) -> Vec<EventRow> {
    let mut kept: HashMap<(i32, Uuid), EventRow> = HashMap::with_capacity(rows.len());
    for row in rows {
        match kept.get_mut(&(row.day(), row.event)) {
            Some(first)
                if (first.occurred_micros, first.received_micros) <= (row.occurred_micros, row.received_micros) => {}
            Some(first) => *first = row,
            None => drop(kept.insert((row.day(), row.event), row)),
        }
    }
    kept.into_values().collect()
}

/// The file of the events of one day, which are sorted and not empty.
fn file_of(batch: Uuid, rows: &[EventRow]) -> Result<NewFile, Error> {
    let day = rows.first().map_or(0, EventRow::day);
    let date =
        schema::date(day).map_err(|it| Error::Damaged { path: format!("day {day}"), problem: it.to_string() })?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema::SCHEMA.clone(), Some(properties()))?;
    for rows in rows.chunks(ROW_GROUP_ROWS) {
        writer.write(&schema::batch(rows)?)?;
    }
    let bytes = Bytes::from(writer.into_inner()?);
    let mut companies = BTreeMap::new();
    for row in rows {
        *companies.entry(row.company).or_default() += 1;
    }
    let occurred = || rows.iter().map(|it| it.occurred_micros);
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    Ok(NewFile {
        id: id_of(&[batch], date, &sha256),
        day: date,
        sha256,
        bytes,
        events: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        companies,
        first_micros: occurred().min().unwrap_or(0),
        last_micros: occurred().max().unwrap_or(0),
    })
}

/// The id of a file: what it was made from, its day and its bytes. So one id never stands for two contents, whichever release
/// wrote it.
pub(super) fn id_of(origins: &[Uuid], day: Date, sha256: &[u8; 32]) -> Uuid {
    let mut name: Vec<u8> = origins.iter().flat_map(|it| it.into_bytes()).collect();
    name.extend(day.to_string().into_bytes());
    name.extend(sha256);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &name)
}

/// How files are written: zstd, and the order of rows said, so that a query need not sort.
pub fn properties() -> WriterProperties {
    let ascending = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns(Some(vec![ascending(0), ascending(2)]))
        .set_created_by("secretaria".into())
        .build()
}
