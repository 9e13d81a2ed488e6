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

/// Whose functions an unqualified call finds, as this process's connections look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decider {
    /// The extension's, which this version of it has installed.
    Extension {
        /// As in `pg_extension`.
        version: String,
    },
    /// Those in PL/pgSQL.
    Reference,
}

/// Asks the database.
///
/// # Errors
/// If Postgres is away.
pub async fn decider(db: &Db) -> Result<Decider, Failure> {
    // Installed is not enough: another schema may come first on the search path.
    let sql = "select e.extversion
        from pg_extension e
        join pg_depend d on d.refobjid = e.oid and d.refclassid = 'pg_extension'::regclass
        where e.extname = 'secretaria'
          and d.classid = 'pg_proc'::regclass
          and d.objid = to_regproc('check_feature_access')";
    let rows = query(&db.get().await?, sql, &[]).await?;
    Ok(rows.first().map_or(Decider::Reference, |row| Decider::Extension { version: row.get(0) }))
}

/// Keeps house until stopped; while Postgres is away it waits.
pub async fn keep_house(db: Db, stop: Stop) {
    let mut said = false;
    loop {
        let done = async {
            if !said {
                say_who_decides(&decider(&db).await?);
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

fn say_who_decides(decider: &Decider) {
    match decider {
        Decider::Extension { version } => tracing::info!(version, "quota functions are those of the extension"),
        Decider::Reference => tracing::info!("quota functions are those of the reference, in PL/pgSQL"),
    }
}
