//! The outbox relay: rows → topics, by one process at a time, in order per key.
//!
//! A row is deleted after the broker's acknowledgement, so a crash between the two publishes it once more; every
//! reader recognises a repeat by its event id. Rows are scanned, never an id high-water mark: ids commit out of order.

use std::time::Duration;

use domain::{CompanyId, Topic, placement};
use futures_util::future::join_all;
use metrics::counter;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Row, Statement};

use crate::dead_letter;
use crate::kafka::{Header, Outgoing, Producer};
use crate::metric;
use crate::postgres::{Client, Db, Failure};
use crate::settings;
use crate::task::Stop;
use crate::telemetry::chain;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often an empty outbox is polled, in milliseconds.
    pub poll_ms: u64,
    /// Most rows published at once.
    pub batch_rows: u32,
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the invalid setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if !(1..=10_000).contains(&self.poll_ms) {
            return Err(settings::Error::invalid("outbox.poll_ms", "must be between 1 and 10000"));
        }
        if !(1..=10_000).contains(&self.batch_rows) {
            return Err(settings::Error::invalid("outbox.batch_rows", "must be between 1 and 10000"));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Config { poll_ms: 25, batch_rows: 1_000 }
    }
}

/// An arbitrary number that nothing else in this database locks.
const LOCK: i64 = 0x5ec2_e7a2_0b0c;

/// Keeps the planner from choosing plans by how small the outbox was when the statements were planned: it goes from empty to
/// thousands of rows and back faster than statistics follow, and with a plan that scans the table for each row to delete
/// the relay never catches up. Only the relay uses this connection.
const PREFER_INDEXES: &str = "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; \
                              set enable_bitmapscan = off";

/// Publishes until stopped. While Postgres or Kafka is unavailable it waits.
pub async fn run(db: Db, producer: Producer, partitions: u16, config: Config, stop: Stop) {
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match hold_lock_and_publish(&db, &producer, partitions, &config, &stop).await {
            Ok(()) => Duration::from_millis(500),
            Err(problem) => {
                tracing::warn!(error = chain(&problem), "outbox relay waits for postgres");
                Duration::from_secs(1)
            }
        };
    }
}

/// Returns when another process holds the lock, when stopped, or with an error of the connection.
async fn hold_lock_and_publish(
    db: &Db,
    producer: &Producer,
    partitions: u16,
    config: &Config,
    stop: &Stop,
) -> Result<(), Failure> {
    // Taken out of the pool, so that the lock is released with the connection and never returns to the pool.
    let client = deadpool_postgres::Object::take(db.get().await?);
    if !client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        return Ok(());
    }
    tracing::info!("this process relays the outbox");
    client.batch_execute(PREFER_INDEXES).await?;
    let statements = Statements { oldest: client.prepare(OLDEST).await?, delete: client.prepare(DELETE).await? };
    while !stop.is_cancelled() {
        let round = publish_some(&client, &statements, producer, partitions, config).await?;
        if round.failed > 0 {
            tracing::warn!(rows = round.failed, "outbox rows stay for the next round: the broker did not confirm them");
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        } else if round.seen < config.batch_rows as usize {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(config.poll_ms)) => {}
            }
        }
    }
    Ok(())
}

const OLDEST: &str = "
    select company_id, outbox_id, topic, key, placed_by, spread, headers, payload
    from secretaria.outbox
    order by outbox_id
    limit $1";

/// Looks rows up key by key, however few rows the planner expects: it must not scan the table for the keys. Rows are only
/// inserted and deleted, so a row's ctid does not change.
const DELETE: &str = "
    delete from secretaria.outbox
    where ctid = any (array(
      select o.row_id
      from unnest($1::bigint[], $2::bigint[]) as it (company_id, outbox_id)
      cross join lateral (
        select o.ctid as row_id
        from secretaria.outbox o
        where o.company_id = it.company_id and o.outbox_id = it.outbox_id
        offset 0
      ) o))";

struct Statements {
    oldest: Statement,
    delete: Statement,
}

async fn publish_some(
    client: &Client,
    statements: &Statements,
    producer: &Producer,
    partitions: u16,
    config: &Config,
) -> Result<Round, Failure> {
    let rows = client.query(&statements.oldest, &[&i64::from(config.batch_rows)]).await?;
    // Queued in order, so they are published in order; then all acknowledgements are awaited at once.
    let published = join_all(rows.iter().map(|row| publish(row, producer, partitions))).await;
    let (mut companies, mut ids) = (Vec::new(), Vec::new());
    let mut round = Round { seen: rows.len(), failed: 0 };
    for (row, published) in rows.iter().zip(published) {
        match published {
            Ok(topic) => {
                companies.push(row.get::<_, i64>("company_id"));
                ids.push(row.get::<_, i64>("outbox_id"));
                counter!(metric::OUTBOX_PUBLISHED, "topic" => topic).increment(1);
            }
            Err(problem) if problem.is_final() => {
                tracing::error!(error = chain(&problem), "outbox row can never be published: it is dead-lettered");
                dead_letter(client, row, &chain(&problem)).await?;
            }
            Err(problem) => {
                tracing::debug!(error = chain(&problem), "outbox row stays for the next round");
                round.failed += 1;
            }
        }
    }
    if !ids.is_empty() {
        client.execute(&statements.delete, &[&companies, &ids]).await?;
    }
    Ok(round)
}

/// The rows of one round.
struct Round {
    seen: usize,
    failed: usize,
}

/// Dead-letters a row that the broker will never accept, so that the others are published. After a crash between the two
/// statements the first is repeated, which changes nothing.
async fn dead_letter(client: &Client, row: &Row, detail: &str) -> Result<(), Failure> {
    let (company, id): (i64, i64) = (row.get("company_id"), row.get("outbox_id"));
    dead_letter::add_unpublishable(client, company, id, detail).await?;
    let sql = "delete from secretaria.outbox where company_id = $1 and outbox_id = $2";
    client.execute(sql, &[&company, &id]).await?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Unpublished {
    #[error("topic {0} is unknown")]
    UnknownTopic(String),
    #[error("broker did not accept the row")]
    NotDurable(#[from] crate::kafka::NotDurable),
}

impl Unpublished {
    /// Whether a retry cannot help.
    fn is_final(&self) -> bool {
        match self {
            Unpublished::UnknownTopic(_) => true,
            Unpublished::NotDurable(problem) => problem.is_too_large(),
        }
    }
}

/// Queues one row at the producer at once; the future resolves at the broker's acknowledgement.
fn publish(
    row: &Row,
    producer: &Producer,
    partitions: u16,
) -> impl Future<Output = Result<&'static str, Unpublished>> + use<> {
    let name: &str = row.get("topic");
    let topic = Topic::named(name).ok_or_else(|| Unpublished::UnknownTopic(name.to_owned()));
    let queued = topic.map(|topic| {
        let company = CompanyId(row.get("company_id"));
        let spread = u16::try_from(row.get::<_, i16>("spread")).unwrap_or(placement::DEFAULT_SPREAD);
        let headers = dead_letter::headers_from_json(&row.get("headers"));
        let headers: Vec<Header<'_>> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let outgoing = Outgoing {
            topic,
            partition: placement::partition(company, row.get("placed_by"), spread, partitions),
            key: row.get("key"),
            payload: row.get("payload"),
            headers: &headers,
        };
        (topic.as_str(), producer.publish(outgoing))
    });
    async move {
        let (topic, acknowledged) = queued?;
        acknowledged.await?;
        Ok(topic)
    }
}
