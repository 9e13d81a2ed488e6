//! The manifest of the lake: which files there are, and which days changed. No other module writes `lake_files`,
//! `lake_batches` and the marks of `rollup_utc_days`, except that a new time zone marks days in a trigger.

use domain::Topic;
use jiff::Timestamp;
use jiff::civil::Date;
use platform::postgres::{GenericClient, Row, Transaction, execute, query};
use tokio_postgres::Error;
use uuid::Uuid;

use super::file::NewFile;

/// A file as the manifest knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    pub id: Uuid,
    pub day: Date,
    pub path: String,
    pub origin: String,
    pub events: i64,
    pub bytes: i64,
    pub sha256: Vec<u8>,
    pub written_at: Timestamp,
    /// Another file holds its events.
    pub is_replaced: bool,
}

/// What a batch of records was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub id: Uuid,
    /// Topic, partition, first and last offset, sorted.
    pub ranges: Vec<(Topic, i32, i64, i64)>,
    pub records: i64,
    pub repeats: i64,
}

/// A day whose rollups are to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirtyDay {
    pub day: Date,
    /// The mark that was read. If it rises meanwhile, the day stays dirty.
    pub mark: i64,
}

/// Adds the files of a batch and marks their days.
///
/// # Errors
/// If Postgres refuses.
pub async fn add_batch(tx: &Transaction<'_>, batch: &Batch, files: &[NewFile]) -> Result<(), Error> {
    let topics: Vec<&str> = batch.ranges.iter().map(|it| it.0.as_str()).collect();
    let partitions: Vec<i32> = batch.ranges.iter().map(|it| it.1).collect();
    let first: Vec<i64> = batch.ranges.iter().map(|it| it.2).collect();
    let last: Vec<i64> = batch.ranges.iter().map(|it| it.3).collect();
    execute(
        tx,
        "insert into secretaria.lake_batches
           (batch_id, topics, partitions, first_offsets, last_offsets, records, repeats)
         values ($1, $2, $3, $4, $5, $6, $7)",
        &[&batch.id, &topics, &partitions, &first, &last, &batch.records, &batch.repeats],
    )
    .await?;
    add_files(tx, "consumer", Some(batch.id), files).await
}

/// Adds files and marks their days.
///
/// # Errors
/// If Postgres refuses, for example because a file is in the manifest already.
pub async fn add_files(
    tx: &Transaction<'_>,
    origin: &str,
    batch: Option<Uuid>,
    files: &[NewFile],
) -> Result<(), Error> {
    lock(tx).await?;
    insert(tx, origin, batch, files).await?;
    let days: Vec<Date> = files.iter().map(|it| it.day).collect();
    mark(tx, &days).await
}

/// A company's new time zone waits for this transaction, and then finds its files.
async fn lock(tx: &Transaction<'_>) -> Result<(), Error> {
    execute(tx, "select pg_advisory_xact_lock_shared(hashtextextended('secretaria lake', 0))", &[]).await?;
    Ok(())
}

async fn insert(tx: &Transaction<'_>, origin: &str, batch: Option<Uuid>, files: &[NewFile]) -> Result<(), Error> {
    for file in files {
        let companies: Vec<i64> = file.companies.keys().copied().collect();
        let events: Vec<i64> = file.companies.values().copied().collect();
        let bytes = i64::try_from(file.bytes.len()).unwrap_or(i64::MAX);
        let (first, last) = (instant(file.first_micros), instant(file.last_micros));
        execute(
            tx,
            "insert into secretaria.lake_files
               (file_id, day, path, origin, events, bytes, sha256, companies, company_events, batch_id, first_at, last_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            &[
                &file.id, &file.day, &file.path(), &origin, &file.events, &bytes, &file.sha256.as_slice(), &companies,
                &events, &batch, &first, &last,
            ],
        )
        .await?;
    }
    Ok(())
}

/// Puts a merged file in place of those that it was made of; returns false if one of them has been replaced already. The
/// events are the same, so no day is marked.
///
/// # Errors
/// If Postgres refuses.
pub async fn replace(tx: &Transaction<'_>, replaced: &[ManifestFile], merged: &NewFile) -> Result<bool, Error> {
    let ids: Vec<Uuid> = replaced.iter().map(|it| it.id).collect();
    let sql = "
        update secretaria.lake_files
        set replaced_at = now()
        where file_id = any($1)
          and replaced_at is null";
    if execute(tx, sql, &[&ids]).await? != ids.len() as u64 {
        return Ok(false);
    }
    insert(tx, "compaction", None, std::slice::from_ref(merged)).await?;
    Ok(true)
}

/// The paths of files that were replaced an hour ago and are not deleted yet, some at a time.
///
/// # Errors
/// If Postgres refuses.
pub async fn replaced_an_hour_ago(client: &impl GenericClient) -> Result<Vec<String>, Error> {
    let sql = "
        select path
        from secretaria.lake_files
        where replaced_at < now() - interval '1 hour'
          and deleted_at is null
        order by replaced_at
        limit 1000";
    Ok(query(client, sql, &[]).await?.iter().map(|it| it.get(0)).collect())
}

/// Records that replaced files were deleted from the store.
///
/// # Errors
/// If Postgres refuses.
pub async fn deleted(client: &impl GenericClient, paths: &[String]) -> Result<(), Error> {
    let sql = "update secretaria.lake_files set deleted_at = now() where path = any($1) and replaced_at is not null";
    execute(client, sql, &[&paths]).await?;
    Ok(())
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN)
}

/// Marks days as dirty, in the order of the days, so that two that mark the same ones wait for one another in turn.
///
/// # Errors
/// If Postgres refuses.
pub async fn mark(client: &impl GenericClient, days: &[Date]) -> Result<(), Error> {
    execute(
        client,
        "insert into secretaria.rollup_utc_days as d (day)
         select distinct it.day
         from unnest($1::date[]) as it (day)
         order by it.day
         on conflict (day) do update
         set mark = nextval('secretaria.rollup_marks'),
           marked_at = now()",
        &[&days],
    )
    .await?;
    Ok(())
}

/// The days that have files, from and to where given, both included.
///
/// # Errors
/// If Postgres refuses.
pub async fn days_between(
    client: &impl GenericClient,
    from: Option<Date>,
    to: Option<Date>,
) -> Result<Vec<Date>, Error> {
    let sql = "
        select distinct day
        from secretaria.lake_files
        where replaced_at is null
          and day >= coalesce($1::date, '-infinity')
          and day <= coalesce($2::date, 'infinity')
        order by day";
    Ok(query(client, sql, &[&from, &to]).await?.iter().map(|it| it.get(0)).collect())
}

/// The dirty days, the latest first, at most `limit`: what happens now is shown before what is repaired.
///
/// # Errors
/// If Postgres refuses.
pub async fn dirty_days(client: &impl GenericClient, limit: i64) -> Result<Vec<DirtyDay>, Error> {
    let sql = "select day, mark from secretaria.rollup_utc_days where computed_mark < mark order by day desc limit $1";
    let rows = query(client, sql, &[&limit]).await?;
    Ok(rows.iter().map(|it| DirtyDay { day: it.get(0), mark: it.get(1) }).collect())
}

/// Records that a day was computed for a mark; returns whether it was not for a later one already, or for the same.
///
/// # Errors
/// If Postgres refuses.
pub async fn computed(tx: &Transaction<'_>, day: DirtyDay) -> Result<bool, Error> {
    let sql = "
        update secretaria.rollup_utc_days
        set computed_mark = $2,
          computed_at = now()
        where day = $1
          and computed_mark < $2";
    Ok(execute(tx, sql, &[&day.day, &day.mark]).await? == 1)
}

const FILES: &str = "\
select file_id, day, path, origin, events, bytes, sha256, written_at, replaced_at is not null
from secretaria.lake_files";

/// The files that hold the events of a range of days, both included.
///
/// # Errors
/// If Postgres refuses.
pub async fn files_between(client: &impl GenericClient, from: Date, to: Date) -> Result<Vec<ManifestFile>, Error> {
    let sql = format!("{FILES} where replaced_at is null and day between $1 and $2 order by day, file_id");
    Ok(query(client, &sql, &[&from, &to]).await?.iter().map(file).collect())
}

/// Every file that is in the store, also those that were replaced.
///
/// # Errors
/// If Postgres refuses.
pub async fn all_files(client: &impl GenericClient) -> Result<Vec<ManifestFile>, Error> {
    let sql = format!("{FILES} where deleted_at is null order by day, file_id");
    Ok(query(client, &sql, &[]).await?.iter().map(file).collect())
}

fn file(row: &Row) -> ManifestFile {
    ManifestFile {
        id: row.get(0),
        day: row.get(1),
        path: row.get(2),
        origin: row.get(3),
        events: row.get(4),
        bytes: row.get(5),
        sha256: row.get(6),
        written_at: row.get(7),
        is_replaced: row.get(8),
    }
}
