//! What a process with processors does for the quota functions: it says once which ones this database has, so that nobody
//! measures the one and means the other, and gives back what reservations that ran out still hold.
//!
//! Whoever needs the room gives it back as well: nothing depends on this, but for those who only look.

use std::time::Duration;

use platform::postgres::{Db, Failure, query};
use platform::task::Stop;
use platform::telemetry::chain;

/// How often reservations are looked through.
const EVERY: Duration = Duration::from_secs(30);
/// How soon a Postgres that was away is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Keeps house until stopped; while Postgres is away it waits.
pub(crate) async fn keep_house(db: Db, stop: Stop) {
    let mut said = false;
    loop {
        let done = async {
            if !said {
                say_who_decides(version(&db).await?.as_deref());
                said = true;
            }
            query(&db.get().await?, "select expire_reservations()", &[]).await.map_err(Failure::from)
        };
        let wait = match done.await {
            Ok(_) => EVERY,
            Err(problem) => {
                tracing::debug!(error = chain(&problem), "reservations were not looked through");
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn say_who_decides(version: Option<&str>) {
    match version {
        Some(version) => tracing::info!(version, "quota functions are those of the extension"),
        None => tracing::info!("quota functions are those of the reference, in PL/pgSQL"),
    }
}

async fn version(db: &Db) -> Result<Option<String>, Failure> {
    let sql = "select extversion from pg_extension where extname = 'secretaria'";
    let rows = query(&db.get().await?, sql, &[]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}
