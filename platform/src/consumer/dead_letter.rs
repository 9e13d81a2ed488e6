//! Dead letters: an event that cannot be handled is stored with its cause, so that the events after it can be handled.
//!
//! A dead letter is first a row of `dead_letters`, with the original bytes and headers, then a record on `dead.letters`
//! for programs that watch that topic. This module alone adds rows; `processors::dead_letters` replays and drops them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{CompanyId, EventId, ProcessorName, Topic, header, placement};
use serde_json::Value;
use tokio_postgres::Error;

use crate::kafka::Record;
use crate::outbox;
use crate::postgres::{self, Transaction};

/// Why an event is dead-lettered.
#[derive(Debug, Clone)]
pub struct Cause {
    /// A stable name to filter by.
    pub class: Cow<'static, str>,
    /// A sentence for the operator. Holds no body, number or token.
    pub detail: String,
    /// How often it was tried.
    pub attempts: i32,
}

/// An event to dead-letter, with the record it came in.
#[derive(Debug, Clone)]
pub struct FailedEvent<'a> {
    /// Whose; [`CompanyId::NONE`] when the record does not say.
    pub company: CompanyId,
    pub event: EventId,
    /// The topic it was read from.
    pub topic: Topic,
    /// The record as it was read.
    pub record: &'a Record,
}

/// Dead-letters an event, or puts its dead letter back to `waiting` when a replay failed again.
///
/// # Errors
/// If Postgres refuses.
pub async fn add(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    failed: &FailedEvent<'_>,
    cause: &Cause,
) -> Result<(), Error> {
    let record = failed.record;
    postgres::execute(
        tx,
        "insert into secretaria.dead_letters
           (company_id, processor, event_id, cause, detail, attempts, topic, partition, record_offset, key, headers, payload)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict (company_id, processor, event_id) do update
         set state = 'waiting', cause = excluded.cause, detail = excluded.detail,
           attempts = dead_letters.attempts + excluded.attempts, dead_lettered_at = now(), settled_at = null, settled_by = null",
        &[
            &failed.company.0,
            &processor.as_str(),
            &failed.event.0,
            &cause.class.as_ref(),
            &cause.detail,
            &cause.attempts,
            &failed.topic.as_str(),
            &record.partition,
            &record.offset,
            &record.key,
            &headers_as_json(&record.headers),
            &record.payload,
        ],
    )
    .await?;
    announce(tx, processor, failed, cause).await
}

/// A table whose rows keep the record they came in, in `record_*` columns, until they end well.
#[derive(Debug, Clone, Copy)]
pub struct RecordTable {
    pub table: &'static str,
    /// Its column for the event's id.
    pub id: &'static str,
    /// The topic of its records.
    pub topic: Topic,
}

/// Dead-letters an event of which a row has ended as `failed_permanent`, with the record kept there: the same in every such row.
///
/// # Errors
/// If Postgres refuses.
pub async fn add_recorded(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    records: RecordTable,
    (company, event): (CompanyId, EventId),
    cause: &Cause,
) -> Result<(), Error> {
    let RecordTable { table, id, topic } = records;
    let sql = format!(
        "select record_partition, record_offset, record_key, record_payload, record_headers
         from secretaria.{table}
         where company_id = $1 and {id} = $2 and outcome = 'failed_permanent'
         limit 1"
    );
    let rows = postgres::query(tx, &sql, &[&company.0, &event.0]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let headers = headers_from_json(&row.get::<_, Option<Value>>(4).unwrap_or_default());
    let record = Record::kept(topic, row.get(0), row.get(1), row.get(2), row.get(3), headers);
    add(tx, processor, &FailedEvent { company, event, topic, record: &record }, cause).await
}

/// Dead-letters an outbox row that cannot be published. It is not announced: the announcement would be an outbox row too.
///
/// # Errors
/// If Postgres refuses.
pub(crate) async fn add_unpublishable(
    client: &tokio_postgres::Client,
    company: i64,
    outbox_id: i64,
    detail: &str,
) -> Result<(), Error> {
    client
        .execute(
            "insert into secretaria.dead_letters
               (company_id, processor, event_id, cause, detail, topic, partition, record_offset, key, headers, payload)
             select company_id, 'outbox', event_id, 'unpublishable', $3, topic, -1, outbox_id, key, headers, payload
             from secretaria.outbox
             where company_id = $1 and outbox_id = $2
             on conflict do nothing",
            &[&company, &outbox_id, &detail],
        )
        .await?;
    Ok(())
}

/// Announces a dead letter on the topic `dead.letters`.
async fn announce(
    tx: &Transaction<'_>,
    processor: ProcessorName,
    failed: &FailedEvent<'_>,
    cause: &Cause,
) -> Result<(), Error> {
    let record = failed.record;
    let origin = format!("{}/{}/{}", failed.topic, record.partition, record.offset);
    let headers = with_history(&record.headers, &format!("{processor}: {}", cause.class), &origin, cause.attempts);
    let key = record.key.clone().unwrap_or_default();
    let subject = subject_of(&key);
    outbox::push(
        tx,
        &[outbox::Entry {
            company: failed.company,
            topic: Topic::DeadLetters,
            key,
            subject,
            spread: placement::DEFAULT_SPREAD,
            event: failed.event,
            headers,
            payload: record.payload.clone().unwrap_or_default(),
        }],
    )
    .await
}

/// A record's headers for a `jsonb` column: an array of `[name, base64]`, so that order and bytes survive.
pub fn headers_as_json(headers: &[(String, Vec<u8>)]) -> Value {
    headers.iter().map(|(name, value)| Value::from(vec![name.clone(), STANDARD.encode(value)])).collect()
}

/// The headers that [`headers_as_json`] wrote; malformed entries are left out.
pub fn headers_from_json(json: &Value) -> Vec<(String, Vec<u8>)> {
    let pairs = json.as_array().into_iter().flatten();
    pairs
        .filter_map(|pair| Some((pair.get(0)?.as_str()?.to_owned(), STANDARD.decode(pair.get(1)?.as_str()?).ok()?)))
        .collect()
}

/// A record's headers with its history: why it was dead-lettered, from where, and after how many attempts. Earlier
/// headers of the same names are replaced.
pub fn with_history(headers: &[(String, Vec<u8>)], cause: &str, origin: &str, attempts: i32) -> Vec<(String, Vec<u8>)> {
    let history = [
        (header::CAUSE, cause.to_owned()),
        (header::ORIGIN, origin.to_owned()),
        (header::ATTEMPT, attempts.to_string()),
    ];
    let kept = headers.iter().filter(|(name, _)| history.iter().all(|(known, _)| name != known)).cloned();
    kept.chain(history.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes()))).collect()
}

/// What follows `company/` in a key; the partition is chosen by it.
pub fn subject_of(key: &[u8]) -> String {
    let key = std::str::from_utf8(key).unwrap_or_default();
    // Postgres holds no NUL in text.
    key.split_once('/').map_or("", |(_, subject)| subject).replace('\0', "\u{fffd}")
}
