//! Which quota functions this database has: said once, so that nobody measures the one and means the other.

use std::time::Duration;

use platform::postgres::{Db, Failure, query};
use platform::task::Stop;

const AGAIN: Duration = Duration::from_secs(2);

/// Logs whether the extension decides or the reference in PL/pgSQL; while Postgres is away it waits.
pub(crate) async fn say_who_decides(db: Db, stop: Stop) {
    loop {
        match version(&db).await {
            Ok(Some(version)) => return tracing::info!(version, "quota functions are those of the extension"),
            Ok(None) => return tracing::info!("quota functions are those of the reference, in PL/pgSQL"),
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn version(db: &Db) -> Result<Option<String>, Failure> {
    let sql = "select extversion from pg_extension where extname = 'secretaria'";
    let rows = query(&db.get().await?, sql, &[]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}
