//! Periodic jobs: once per tick across all processes.
//!
//! The process that advances the tick enqueues the job, in the same transaction. For ticks that passed while no process
//! was running, one job is enqueued, not one each.

use std::time::Duration;

use domain::CompanyId;
use jiff::Timestamp;
use uuid::Uuid;

use super::job::{Due, NewJob};
use super::{Queue, Wake, store};
use crate::clock;
use crate::postgres::{Db, Failure, query};
use crate::task::Stop;
use crate::telemetry::chain;

/// A job that is enqueued at regular times.
#[derive(Debug, Clone, Copy)]
pub struct Periodic {
    /// Identifies it within its queue; also in the body of each of its jobs, as `periodic`.
    pub name: &'static str,
    /// From one tick to the next. Ticks are whole multiples of it since 1970, so that all processes agree on them.
    pub every: Duration,
}

/// Enqueues a periodic job at each tick until stopped. While Postgres is unavailable it waits.
pub async fn run(periodic: Periodic, queue: Queue, db: Db, wake: Wake, stop: Stop) {
    loop {
        let now = clock::now();
        let tick = tick(now, periodic.every);
        let wait = match begin(&db, queue, &periodic, tick).await {
            Ok(began) => {
                if began {
                    wake.ready([CompanyId::NONE]);
                }
                until(tick, periodic.every, now)
            }
            Err(problem) => {
                tracing::warn!(%queue, job = periodic.name, error = chain(&problem), "periodic job waits for postgres");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Enqueues the job of a tick unless another process has done so; returns whether this one did.
///
/// # Errors
/// If Postgres is unavailable or refuses.
pub async fn begin(db: &Db, queue: Queue, periodic: &Periodic, tick: Timestamp) -> Result<bool, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let moved = query(
        &tx,
        "insert into secretaria.periodic_jobs as p (queue, name, tick_at)
         values ($1, $2, $3)
         on conflict (queue, name) do update
         set tick_at = excluded.tick_at
         where p.tick_at < excluded.tick_at
         returning tick_at",
        &[&queue.name(), &periodic.name, &tick],
    )
    .await?;
    if moved.is_empty() {
        return Ok(false);
    }
    let name = format!("{queue}/{}/{tick}", periodic.name);
    let job = NewJob {
        due: Due::Now,
        body: serde_json::json!({ "periodic": periodic.name, "tick_at": tick }),
        ..NewJob::new(CompanyId::NONE, Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
    };
    store::enqueue(&tx, queue, &[job]).await?;
    tx.commit().await?;
    Ok(true)
}

fn tick(now: Timestamp, every: Duration) -> Timestamp {
    let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let now_ms = now.as_millisecond();
    Timestamp::from_millisecond(now_ms - now_ms.rem_euclid(every_ms)).unwrap_or(now)
}

fn until(tick: Timestamp, every: Duration, now: Timestamp) -> Duration {
    let next = tick.as_millisecond().saturating_add(i64::try_from(every.as_millis()).unwrap_or(i64::MAX));
    Duration::from_millis(u64::try_from(next.saturating_sub(now.as_millisecond())).unwrap_or(0).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_sees_the_same_ticks() {
        let every = Duration::from_secs(300);
        let at = |text: &str| tick(text.parse().unwrap(), every).to_string();
        assert_eq!(at("2026-11-01T10:04:59.9Z"), "2026-11-01T10:00:00Z");
        assert_eq!(at("2026-11-01T10:05:00Z"), "2026-11-01T10:05:00Z");
        let now = "2026-11-01T10:04:00Z".parse().unwrap();
        assert_eq!(until(tick(now, every), every, now), Duration::from_secs(60));
    }
}
