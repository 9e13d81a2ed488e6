//! What a process with processors does for the quota functions: it logs once which ones this database has, so that no
//! measurement is attributed to the wrong ones, and expires reservations that are past their time.
//!
//! An increment that needs the headroom expires reservations too; only reads depend on this.

use std::time::Duration;

use platform::postgres::{Db, Failure, query};
use platform::task::Stop;
use platform::telemetry::chain;

/// How often reservations are expired.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon after a failure to try again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Which functions an unqualified call resolves to, on the search path of this process's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaFunctions {
    /// The extension's.
    Extension {
        /// As in `pg_extension`.
        version: String,
    },
    /// Those in PL/pgSQL.
    PlPgSql,
}

/// Reads from the database which functions it has.
///
/// # Errors
/// If Postgres is away.
pub async fn functions(db: &Db) -> Result<QuotaFunctions, Failure> {
    // Installed is not enough: another schema may come first on the search path.
    let sql = "select e.extversion
        from pg_extension e
        join pg_depend d on d.refobjid = e.oid and d.refclassid = 'pg_extension'::regclass
        where e.extname = 'secretaria'
          and d.classid = 'pg_proc'::regclass
          and d.objid = to_regproc('check_feature_access')";
    let rows = query(&db.get().await?, sql, &[]).await?;
    Ok(rows.first().map_or(QuotaFunctions::PlPgSql, |row| QuotaFunctions::Extension { version: row.get(0) }))
}

/// Logs once which functions there are, then expires reservations until stopped; retries while Postgres is away.
pub async fn expire_reservations(db: Db, stop: Stop) {
    let mut is_logged = false;
    loop {
        let done = async {
            if !is_logged {
                log_functions(&functions(&db).await?);
                is_logged = true;
            }
            query(&db.get().await?, "select expire_reservations()", &[]).await.map_err(Failure::from)
        };
        let wait = match done.await {
            Ok(_) => INTERVAL,
            Err(problem) => {
                tracing::debug!(error = chain(&problem), "reservations cannot be expired; trying again");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn log_functions(functions: &QuotaFunctions) {
    match functions {
        QuotaFunctions::Extension { version } => tracing::info!(version, "quota functions are those of the extension"),
        QuotaFunctions::PlPgSql => tracing::info!("quota functions are those in PL/pgSQL"),
    }
}
