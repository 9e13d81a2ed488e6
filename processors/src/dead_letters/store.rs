//! The SQL of dead letters.

use domain::{CompanyId, EventId, placement};
use jiff::Timestamp;
use platform::dead_letter;
use platform::postgres::{Transaction, execute, query};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Filter;

/// An event that could not be handled, with the record it came in.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub company: CompanyId,
    /// Which processor could not handle it.
    pub processor: String,
    pub event: EventId,
    /// Why: one of a fixed set of classes.
    pub cause: String,
    /// Why, as a sentence.
    pub detail: String,
    /// How often it was tried.
    pub attempts: i32,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Option<Vec<u8>>,
    pub dead_lettered_at: Timestamp,
    /// How many partitions its company owns, so that a replay goes to one of them.
    pub spread: u16,
}

/// The dead letters that wait and match the filter, oldest first; locked, so that two operators cannot settle one
/// twice. Those that another transaction has locked are left out.
pub(super) async fn waiting(tx: &Transaction<'_>, filter: &Filter) -> Result<Vec<DeadLetter>, Error> {
    let rows = query(
        tx,
        "select d.company_id, d.processor, d.event_id, d.cause, d.detail, d.attempts, d.topic, d.partition,
           d.record_offset, d.key, d.headers, d.payload, d.dead_lettered_at, c.placement_spread
         from secretaria.dead_letters d
         left join secretaria.companies c using (company_id)
         where d.state = 'waiting'
           and ($1::bigint is null or d.company_id = $1)
           and ($2::text is null or d.processor = $2)
           and ($3::text is null or d.cause = $3)
           and ($4::uuid is null or d.event_id = $4)
           and ($5::timestamptz is null or d.dead_lettered_at >= $5)
         order by d.dead_lettered_at, d.event_id
         limit $6
         for update of d skip locked",
        &[
            &filter.company.map(|it| it.0),
            &filter.processor.map(|it| it.as_str()),
            &filter.cause,
            &filter.event.map(|it| it.0),
            &filter.since,
            &i64::from(filter.limit),
        ],
    )
    .await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &Row) -> DeadLetter {
    DeadLetter {
        company: CompanyId(row.get(0)),
        processor: row.get(1),
        event: EventId(row.get(2)),
        cause: row.get(3),
        detail: row.get(4),
        attempts: row.get(5),
        topic: row.get(6),
        partition: row.get(7),
        offset: row.get(8),
        key: row.get(9),
        headers: dead_letter::headers_from_json(&row.get(10)),
        payload: row.get(11),
        dead_lettered_at: row.get(12),
        spread: row
            .get::<_, Option<i16>>(13)
            .and_then(|it| u16::try_from(it).ok())
            .unwrap_or(placement::DEFAULT_SPREAD),
    }
}

/// Records how dead letters were settled: `replayed` or `dropped`, and by which operator.
pub(super) async fn settle(
    tx: &Transaction<'_>,
    dead_letters: &[DeadLetter],
    state: &str,
    by: &str,
) -> Result<(), Error> {
    let companies: Vec<i64> = dead_letters.iter().map(|it| it.company.0).collect();
    let processors: Vec<&str> = dead_letters.iter().map(|it| it.processor.as_str()).collect();
    let events: Vec<Uuid> = dead_letters.iter().map(|it| it.event.0).collect();
    execute(
        tx,
        "update secretaria.dead_letters d
         set state = $4, settled_at = now(), settled_by = $5
         from unnest($1::bigint[], $2::text[], $3::uuid[]) as it (company_id, processor, event_id)
         where d.company_id = it.company_id and d.processor = it.processor and d.event_id = it.event_id",
        &[&companies, &processors, &events, &state, &by],
    )
    .await?;
    Ok(())
}
