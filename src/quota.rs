//! What a process with processors does for the quota functions: it says once which ones this database has, so that nobody
//! measures the one and means the other, and gives back what reservations that ran out still hold.
//!
//! An increment that needs the headroom expires reservations too: only reads depend on this.

use std::time::Duration;

use platform::postgres::{Db, Failure, query};
use platform::task::Stop;
use platform::telemetry::chain;

/// How often reservations are looked through.
const EVERY: Duration = Duration::from_secs(30);
/// How soon a Postgres that was away is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Whose functions an unqualified call finds, as this process's connections look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaFunctions {
    /// The extension's, which this version of it has installed.
    Extension {
        /// As in `pg_extension`.
        version: String,
    },
    /// Those in PL/pgSQL.
    PlPgSql,
}

/// Asks the database.
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

/// Logs once which functions answer, then gives back expired reservations until stopped; retries while Postgres is away.
pub async fn expire_reservations(db: Db, stop: Stop) {
    let mut said = false;
    loop {
        let done = async {
            if !said {
                log_functions(&functions(&db).await?);
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

fn log_functions(functions: &QuotaFunctions) {
    match functions {
        QuotaFunctions::Extension { version } => tracing::info!(version, "quota functions are those of the extension"),
        QuotaFunctions::PlPgSql => tracing::info!("quota functions are those of the reference, in PL/pgSQL"),
    }
}
