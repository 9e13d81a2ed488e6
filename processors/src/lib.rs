//! Topics → effects. Each processor is a folder with the same rooms.
//!
//! `mod.rs` is the contract, `decide.rs` is pure, `perform.rs` runs effects inside one transaction, `store.rs` is the
//! room's SQL (each table has one writing module), `work.rs` makes the slow calls between transactions.

pub mod reply;
pub mod delivery;
pub mod metering;
pub mod alerts;
pub mod parked;
mod ledger;
mod queues;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use domain::ProcessorName;
use platform::postgres::{Db, Failure};
use platform::seal::Sealer;
use platform::task::Stop;
use platform::telemetry::chain;
use platform::{heartbeat, instance, intake, kafka, settings, task};
use tokio::task::{JoinError, JoinHandle, JoinSet};

/// What every processor needs.
#[derive(Clone)]
pub struct Ground {
    /// Postgres as `secretaria_service`.
    pub db: Db,
    /// The broker.
    pub kafka: kafka::Config,
    /// Opens the companies' sealed secrets.
    pub sealer: Arc<Sealer>,
    /// This process's stable name: what it held before a crash is its own again after.
    pub instance: String,
}

/// Settings of the processors.
#[derive(Debug, Clone)]
pub struct Config {
    /// `reply.*`.
    pub reply: reply::Config,
    /// `delivery.*`.
    pub delivery: delivery::Config,
    /// `alerts.*`.
    pub alerts: alerts::Config,
}

/// A processor could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The intake could not begin or go on.
    #[error("intake could not go on")]
    Intake(#[from] intake::Error),
    /// The runner ended without being asked to.
    #[error("runner ended by itself")]
    RunnerEnded,
    /// A task panicked.
    #[error("task broke off")]
    Broke(#[from] JoinError),
    /// The settings make no sense; whoever starts a processor has looked at them before.
    #[error("settings cannot be used")]
    Settings(#[from] settings::Error),
    /// The HTTP client for a provider cannot be made.
    #[error("HTTP client cannot be made")]
    Http(#[from] reqwest::Error),
}

/// Runs the named processors until stopped; away Postgres or Kafka only make them wait.
///
/// # Errors
/// If one cannot start.
pub async fn run(names: &[ProcessorName], ground: Ground, config: Config, stop: Stop) -> Result<(), Error> {
    let stop = stop.child_token();
    task::spawn("queues", queues::run(ground.db.clone(), stop.clone()));
    let mut running = JoinSet::new();
    for &name in names {
        running.spawn(run_one(name, ground.clone(), config.clone(), stop.clone()));
    }
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|problem| Err(Error::Broke(problem)));
        if let Err(problem) = &ended {
            tracing::error!(error = chain(problem), "processor could not go on; the others end too");
        }
        // One that ends by itself takes the others along, so that a supervisor sees it.
        stop.cancel();
        result = result.and(ended);
    }
    result
}

/// One processor, under its name, with a heartbeat that lasts as long as it does.
async fn run_one(name: ProcessorName, ground: Ground, config: Config, stop: Stop) -> Result<(), Error> {
    let Some(_held) = instance::hold(&ground.db, name, &ground.instance, &stop).await else { return Ok(()) };
    let alive = stop.child_token();
    let beats = heartbeat::run(ground.db.clone(), name, ground.instance.clone(), alive.clone());
    task::spawn("heartbeat", beats);
    let _ends_with_us = alive.drop_guard();
    match name {
        ProcessorName::Reply => reply::run(ground, config.reply, stop).await,
        ProcessorName::Delivery => delivery::run(ground, config.delivery, stop).await,
        ProcessorName::Metering => metering::run(ground, stop).await,
        ProcessorName::Alerts => alerts::run(ground, config.alerts, stop).await,
    }
}

/// The two halves of a room that does slow work. If one ends before it was asked to, so does the room.
pub(crate) async fn together(
    intake: impl Future<Output = Result<(), intake::Error>>,
    mut runner: JoinHandle<()>,
    stop: &Stop,
) -> Result<(), Error> {
    tokio::pin!(intake);
    tokio::select! {
        taken = &mut intake => {
            taken?;
            Ok(runner.await?)
        }
        ended = &mut runner => {
            ended?;
            if !stop.is_cancelled() {
                return Err(Error::RunnerEnded);
            }
            Ok(intake.await?)
        }
    }
}

/// Asks Postgres until it answers. Pauses stay below the runner's own, so that results come before new claims.
///
/// # Errors
/// Only if what was asked is at fault, so that asking again would not help.
pub(crate) async fn patiently<T, F>(processor: &str, mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut wait = Duration::from_millis(50);
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(problem) if problem.blames_the_data() => return Err(problem),
            Err(problem) => tracing::warn!(processor, error = chain(&problem), "a result waits for postgres"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(400));
    }
}
