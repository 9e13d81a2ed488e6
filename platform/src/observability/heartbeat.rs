//! Heartbeats: each processor writes one regularly, so that `/healthz` of any process can tell whether it is alive.

use std::time::Duration;

use domain::ProcessorName;

use crate::postgres::{Db, Failure};
use crate::task::Stop;
use crate::telemetry::chain;

/// The time between two heartbeats.
pub const EVERY: Duration = Duration::from_secs(2);

pub async fn run(db: Db, processor: ProcessorName, instance: String, stop: Stop) {
    loop {
        if let Err(problem) = beat(&db, processor, &instance).await {
            tracing::debug!(%processor, error = chain(&problem), "heartbeat was not written");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn beat(db: &Db, processor: ProcessorName, instance: &str) -> Result<(), Failure> {
    db.get()
        .await?
        .execute(
            "insert into secretaria.heartbeats (processor, instance, beat_at)
             values ($1, $2, now())
             on conflict (processor, instance) do update
             set beat_at = excluded.beat_at",
            &[&processor.as_str(), &instance],
        )
        .await?;
    Ok(())
}

/// The age of a processor's latest heartbeat, of any instance; `None` if there is none.
///
/// # Errors
/// If Postgres is unavailable.
pub async fn age(db: &Db, processor: ProcessorName) -> Result<Option<Duration>, Failure> {
    let row = db
        .get()
        .await?
        .query_one(
            "select extract(epoch from now() - max(beat_at))::float8
             from secretaria.heartbeats
             where processor = $1",
            &[&processor.as_str()],
        )
        .await?;
    Ok(row.get::<_, Option<f64>>(0).map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
}
