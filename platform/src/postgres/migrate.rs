//! Migrates a database to this build's schema, one process at a time.

use std::time::Duration;

use tokio_postgres::NoTls;

use crate::secret::SecretText;
use crate::task;

/// The database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres cannot be reached or refused.
    #[error("postgres cannot be reached or refused")]
    Postgres(#[from] tokio_postgres::Error),
    /// A migration failed, or the database was migrated by a build with other migrations.
    #[error("migration failed")]
    Refinery(#[from] refinery::Error),
    /// Another process has held the lock for too long.
    #[error("another process has been migrating for {waited_s} s")]
    Locked { waited_s: u64 },
}

/// An arbitrary number that other applications in the same database are unlikely to lock.
const LOCK: i64 = 0x5ec2_e7a2_1a00;
const LOCK_WAIT_S: u64 = 60;

/// Applies missing migrations and returns their names.
///
/// The lock is polled, not waited for: a blocked statement would hold a snapshot and could deadlock with
/// `create index concurrently`.
///
/// # Errors
/// If Postgres is unavailable, another process migrates for over a minute, or a migration fails.
pub async fn run(url: &SecretText, migrations: refinery::Runner) -> Result<Vec<String>, Error> {
    let (mut client, connection) = tokio_postgres::connect(url.expose(), NoTls).await?;
    let connection = task::spawn("migrate", connection);
    // The first migration puts our schema first on the path; the history of migrations stays where it began.
    client.batch_execute("set search_path = public").await?;
    let mut waited_s = 0;
    while !client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        if waited_s >= LOCK_WAIT_S {
            return Err(Error::Locked { waited_s });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited_s += 1;
    }
    let report = migrations.run_async(&mut client).await?;
    client.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    drop(client);
    connection.abort();
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}
