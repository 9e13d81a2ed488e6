//! Finds processors of an earlier release, which must not run during some migrations, by their heartbeats.

use std::time::Duration;

use anyhow::bail;
use platform::postgres::{Db, Failure, query};
use platform::{clock, heartbeat};

use super::say;

/// The migration that makes jobs of the work that processors of earlier releases claimed by columns of their own rows.
const MOVES_WORK: i32 = 20;

/// The last migration that processors of earlier releases cannot work beside: it renames tables that they write.
const RENAMES_TABLES: i32 = 21;

/// A processor whose latest heartbeat is older has ended, or cannot reach Postgres.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// Waits until no processor of an earlier release runs, if a migration that is not applied yet requires that.
///
/// # Errors
/// If some still run after `timeout`; the error names them and what to do. If Postgres is away.
pub(super) async fn await_end(db: &Db, timeout: Duration) -> anyhow::Result<()> {
    if !must_have_ended(db).await? {
        return Ok(());
    }
    let began = clock::instant();
    let mut is_announced = false;
    loop {
        let alive = alive(db).await?;
        if alive.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= timeout {
            bail!(
                "nothing was changed: processors of an earlier release run, and migrations up to {RENAMES_TABLES} remove \
                 the tables they use: {}. Stop them and run `secretaria migrate` again, or let it wait for them with \
                 `--wait SECONDS`; a processor counts as stopped {} s after its last heartbeat. `ingest` and `api` may \
                 keep running.",
                alive.join(", "),
                HEARTBEAT_TIMEOUT.as_secs()
            );
        }
        if !is_announced {
            say(format_args!("waiting until these have ended: {}", alive.join(", ")))?;
            is_announced = true;
        }
        tokio::time::sleep(heartbeat::EVERY.min(timeout.saturating_sub(began.elapsed()))).await;
    }
}

/// Whether this is a database of an earlier release, to which that migration is not applied yet.
async fn must_have_ended(db: &Db) -> Result<bool, Failure> {
    let client = db.get().await?;
    let history = query(&client, "select to_regclass('public.refinery_schema_history') is not null", &[]).await?;
    if !history.first().is_some_and(|row| row.get(0)) {
        return Ok(false);
    }
    let version = query(&client, "select max(version)::integer from public.refinery_schema_history", &[]).await?;
    Ok(version.first().and_then(|row| row.get::<_, Option<i32>>(0)).is_some_and(|it| it < RENAMES_TABLES))
}

/// Processors with a recent heartbeat, as `processor/instance (heartbeat N s ago)`.
async fn alive(db: &Db) -> Result<Vec<String>, Failure> {
    let client = db.get().await?;
    let rows = query(
        &client,
        "select format('%s/%s (heartbeat %s s ago)', processor, instance, extract(epoch from now() - beat_at)::integer)
         from secretaria.heartbeats
         where beat_at > now() - make_interval(secs => $1)
         order by processor, instance",
        &[&HEARTBEAT_TIMEOUT.as_secs_f64()],
    )
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// How many jobs the migration that was just applied made, by queue; `None` if it made none.
///
/// # Errors
/// If Postgres is away.
pub(super) async fn moved(db: &Db, applied: &[String]) -> Result<Option<String>, Failure> {
    if !applied.iter().any(|it| it.starts_with(&format!("V{MOVES_WORK}__"))) {
        return Ok(None);
    }
    let client = db.get().await?;
    let rows = query(
        &client,
        "select string_agg(format('%s of %s', jobs, queue), ', ' order by queue),
           (select count(*) from secretaria.jobs_running)
         from (select queue, count(*) as jobs from secretaria.jobs group by queue) each",
        &[],
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let running: i64 = row.get(1);
    Ok(row.get::<_, Option<String>>(0).map(|jobs| format!("{jobs} are jobs now; {running} were under way")))
}
