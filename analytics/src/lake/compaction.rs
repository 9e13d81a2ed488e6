//! Merges the small files of a day into larger ones.
//!
//! Archive writes a file every few seconds; a day that stayed in thousands of them would be slow to read. Files are merged by
//! size: sixteen small ones make a larger one, sixteen of those a still larger one, so that each event is rewritten a few
//! times and a day has some dozens of files at most. The merged file holds the same events, each once. Those that it replaces
//! stay for an hour, for queries that read them already.

use std::collections::BTreeMap;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::cast::{as_int64_array, as_timestamp_microsecond_array};
use datafusion::parquet::arrow::ArrowWriter;
use jiff::civil::Date;
use platform::postgres::Db;
use platform::task::Stop;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::engine::{self, Limits};
use super::file::{NewFile, id_of, properties};
use super::manifest::{self, ManifestFile};
use super::{Error, Lake, query, schema};

/// So many files below a size are merged.
pub const MIN_FILES: usize = 16;

/// Files below the first size are merged with one another, then those below the second, and so on. In bytes.
const SIZES: [i64; 3] = [1 << 20, 16 << 20, 128 << 20];

/// The most files that are merged at once.
const MAX_FILES: usize = 1_024;

/// The most bytes that are merged at once; the merged file is in memory until it is written.
const MAX_BYTES: i64 = 256 << 20;

/// The columns of the files, each event once, in the order of the files.
const MERGED: &str = "select {columns} from events order by company_id, occurred_at, event_id";

/// Merges files of a day until no size has `min_files`; returns how many files were replaced.
///
/// # Errors
/// If a file is missing or damaged, a limit is reached, or the store or Postgres is away. What was merged before stays.
pub async fn compact(
    lake: &Lake,
    db: &Db,
    day: Date,
    min_files: usize,
    limits: &Limits,
    cancelled: &Stop,
) -> Result<usize, Error> {
    let mut replaced = 0;
    loop {
        let files = manifest::files_between(&db.get().await?, day, day).await?;
        let chosen = choose(files, min_files);
        if chosen.len() < 2 {
            return Ok(replaced);
        }
        let file = merge(lake, day, &chosen, limits, cancelled).await?;
        lake.put(&file.path(), file.bytes.clone()).await?;
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        if !manifest::replace(&tx, &chosen, &file).await? {
            // Another process has merged some of them, and its file is the one that counts. Ours is the same, or an orphan.
            return Ok(replaced);
        }
        tx.commit().await?;
        replaced += chosen.len();
    }
}

/// Which files are merged next: those below the smallest size of which there are enough.
fn choose(mut files: Vec<ManifestFile>, min_files: usize) -> Vec<ManifestFile> {
    files.sort_by_key(|it| (it.bytes, it.id));
    for size in SIZES {
        let mut bytes = 0;
        let small = files.iter().take(MAX_FILES).take_while(|it| {
            bytes += it.bytes;
            it.bytes < size && bytes <= MAX_BYTES
        });
        let small = small.count();
        if small >= min_files {
            files.truncate(small);
            return files;
        }
    }
    Vec::new()
}

async fn merge(
    lake: &Lake,
    day: Date,
    files: &[ManifestFile],
    limits: &Limits,
    cancelled: &Stop,
) -> Result<NewFile, Error> {
    for file in files {
        lake.read(&file.path, &file.sha256).await?;
    }
    let session = query::session(lake, files.to_vec(), limits).await?;
    let columns: Vec<&str> = schema::SCHEMA.fields().iter().map(|it| it.name().as_str()).collect();
    let rows = query::select(&session, &MERGED.replace("{columns}", &columns.join(", "))).await?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema::SCHEMA.clone(), Some(properties()))?;
    let mut seen = Seen::default();
    engine::drain(rows, limits, cancelled, |batch| {
        let batch = schema::as_stored(&batch)?;
        seen.add(&batch)?;
        Ok(writer.write(&batch)?)
    })
    .await?;
    let bytes = Bytes::from(writer.into_inner()?);
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    let ids: Vec<Uuid> = files.iter().map(|it| it.id).collect();
    Ok(NewFile {
        id: id_of(&ids, day, &sha256),
        day,
        sha256,
        bytes,
        events: seen.companies.values().sum(),
        companies: seen.companies,
        first_micros: seen.first.unwrap_or(0),
        last_micros: seen.last.unwrap_or(0),
    })
}

/// What the manifest says of the merged file.
#[derive(Default)]
struct Seen {
    companies: BTreeMap<i64, i64>,
    first: Option<i64>,
    last: Option<i64>,
}

impl Seen {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let (companies, instants) =
            (as_int64_array(batch.column(0))?, as_timestamp_microsecond_array(batch.column(2))?);
        for company in companies.values() {
            *self.companies.entry(*company).or_default() += 1;
        }
        let (first, last) = (instants.values().iter().min().copied(), instants.values().iter().max().copied());
        self.first = self.first.into_iter().chain(first).min();
        self.last = self.last.max(last);
        Ok(())
    }
}

/// Deletes files that were replaced an hour ago; their rows stay, as the account of what was archived. Returns how many.
///
/// # Errors
/// If the store or Postgres is away.
pub async fn delete_replaced(lake: &Lake, db: &Db) -> Result<usize, Error> {
    let client = db.get().await?;
    let paths = manifest::replaced_an_hour_ago(&client).await?;
    for path in &paths {
        lake.delete(path).await?;
    }
    manifest::deleted(&client, &paths).await?;
    Ok(paths.len())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn files(bytes: &[i64]) -> Vec<ManifestFile> {
        let file = |(n, bytes): (usize, &i64)| ManifestFile {
            id: Uuid::from_u128(n as u128),
            day: Date::constant(2026, 3, 1),
            path: String::new(),
            origin: "consumer".into(),
            events: 1,
            bytes: *bytes,
            sha256: Vec::new(),
            written_at: Timestamp::UNIX_EPOCH,
            is_replaced: false,
        };
        bytes.iter().enumerate().map(file).collect()
    }

    fn chosen(bytes: &[i64], min_files: usize) -> Vec<i64> {
        choose(files(bytes), min_files).iter().map(|it| it.bytes).collect()
    }

    #[test]
    fn files_of_a_size_are_merged_when_there_are_enough() {
        const MB: i64 = 1 << 20;
        assert_eq!(chosen(&[10, 20, 130 * MB], 3), [0_i64; 0], "two small ones and a large one");
        assert_eq!(chosen(&[10, 20, 5 * MB], 3), [10, 20, 5 * MB], "three below the second size");
        assert_eq!(chosen(&[10, 20, 30, 5 * MB], 3), [10, 20, 30], "the larger one is left alone");
        assert_eq!(chosen(&[10, 5 * MB, 6 * MB, 7 * MB], 3), [10, 5 * MB, 6 * MB, 7 * MB]);
        assert_eq!(chosen(&[130 * MB, 140 * MB, 150 * MB], 3), [0_i64; 0], "large ones stay as they are");
        assert_eq!(chosen(&[100 * MB, 100 * MB, 100 * MB], 3), [0_i64; 0], "together they are too large");
    }
}
