//! One process per processor and instance name, held by an advisory lock of Postgres.
//!
//! What an instance had claimed before a crash is its own again after; two living processes of one name would take
//! each other's work for dead. The second waits until the first has gone. A lock goes with its connection, so a killed
//! process frees it at once; one whose connection is cut works on and is not noticed until it starts again.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use domain::ProcessorName;

use crate::postgres::{Db, Failure};
use crate::task::Stop;
use crate::telemetry::chain;

/// The name is ours for as long as this lives.
#[derive(Debug)]
pub struct Held {
    _connection: ClientWrapper,
}

/// Waits for the name to be free; `None` when stopped before that.
pub async fn hold(db: &Db, processor: ProcessorName, instance: &str, stop: &Stop) -> Option<Held> {
    let mut waited_s = 0_u32;
    loop {
        match try_hold(db, processor, instance).await {
            Ok(Some(held)) => return Some(held),
            Ok(None) if waited_s.is_multiple_of(10) => tracing::warn!(
                %processor, instance, waited_s,
                "another process runs under this setting `process.instance`: waiting for it to end"
            ),
            Ok(None) => {}
            Err(problem) => tracing::warn!(%processor, error = chain(&problem), "processor waits for postgres"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => waited_s += 1,
        }
    }
}

async fn try_hold(db: &Db, processor: ProcessorName, instance: &str) -> Result<Option<Held>, Failure> {
    // Taken out of the pool, so that the lock never comes back to it.
    let connection = deadpool_postgres::Object::take(db.get().await?);
    let name = format!("secretaria/{processor}/{instance}");
    let row = connection.query_one("select pg_try_advisory_lock(hashtextextended($1, 0))", &[&name]).await?;
    Ok(row.get::<_, bool>(0).then_some(Held { _connection: connection }))
}
