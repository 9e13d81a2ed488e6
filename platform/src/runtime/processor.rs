//! What every processor is made of: a consumer that takes events in, and a worker for what is slow.

use std::sync::Arc;
use std::time::Duration;

use domain::{ProcessorName, Topic};
use tokio::task::JoinError;

use crate::consumer::{self, Handler};
use crate::postgres::{Db, Failure};
use crate::queue::{self, Queue, Wake, Work, Worker};
use crate::seal::Sealer;
use crate::task::{self, Stop};
use crate::telemetry::chain;
use crate::{kafka, settings};

/// What stands in the list of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name: also its section of the settings.
    pub name: ProcessorName,
    /// What it does, in one line.
    pub help: &'static str,
    pub topics: &'static [Topic],
    /// Its jobs, where it has slow work.
    pub queue: Option<Queue>,
    /// Whether an operator may remove its jobs.
    pub removal: Removal,
    /// Its settings that are lists, as `section.key`.
    pub list_settings: &'static [&'static str],
    /// Variables that stood for one of its settings before it had a section, and that setting.
    pub older_settings: &'static [(&'static str, &'static str)],
}

/// Whether an operator may cancel a live job of a queue, or drop one that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The job is all there is of the work: without it, nothing is left open.
    Allowed,
    /// Rows of the processor would be left without their job: what that leads to, and what to do instead.
    Refused(&'static str),
}

impl Entry {
    /// An entry without anything special.
    pub const fn named(name: &'static str, help: &'static str, topics: &'static [Topic]) -> Self {
        Entry {
            name: ProcessorName::named(name),
            help,
            topics,
            queue: None,
            removal: Removal::Refused("its processor does not say what would become of the work"),
            list_settings: &[],
            older_settings: &[],
        }
    }
}

/// What every processor needs.
#[derive(Clone)]
pub struct Context {
    pub db: Db,
    pub kafka: kafka::Config,
    /// Opens the companies' sealed secrets.
    pub sealer: Arc<Sealer>,
    /// This process's stable name: what it held before a crash is its own again after.
    pub instance: String,
}

/// A processor could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The consumer could not begin or go on.
    #[error("consumer could not go on")]
    Consumer(#[from] consumer::Error),
    /// The worker ended without being asked to.
    #[error("worker ended by itself")]
    WorkerEnded,
    #[error("task panicked")]
    Panicked(#[from] JoinError),
    /// The settings are refused where they are used; loading them has checked what can be checked before.
    #[error("settings cannot be used")]
    Settings(#[from] settings::Error),
    /// The client of a provider cannot be made.
    #[error("client of a provider cannot be made")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The client of a provider cannot be made, for this reason.
    pub fn client(problem: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::Client(Box::new(problem))
    }
}

impl Context {
    /// Consumes until stopped; for a processor without slow work.
    ///
    /// # Errors
    /// If the consumer cannot start or go on.
    pub async fn consume(self, handler: impl Handler, stop: Stop) -> Result<(), Error> {
        Ok(consumer::run(handler, self.db, &self.kafka, &self.instance, Wake::default(), stop).await?)
    }

    /// Consumes and works until stopped. If one of the two ends before it was asked to, so does the other.
    ///
    /// # Errors
    /// If the consumer cannot start or go on, or the worker has ended.
    pub async fn consume_and_work<W: Work>(
        self,
        handler: impl Handler,
        work: W,
        config: queue::Config,
        stop: Stop,
    ) -> Result<(), Error> {
        let wake = Wake::default();
        let (db, instance) = (self.db.clone(), self.instance.clone());
        let worker = Worker { work, db, config, instance, wake: wake.clone() };
        let mut working = task::spawn("worker", worker.run(stop.clone()));
        let consuming = consumer::run(handler, self.db, &self.kafka, &self.instance, wake, stop.clone());
        tokio::pin!(consuming);
        tokio::select! {
            consumed = &mut consuming => {
                consumed?;
                Ok(working.await?)
            }
            ended = &mut working => {
                ended?;
                if !stop.is_cancelled() {
                    return Err(Error::WorkerEnded);
                }
                Ok(consuming.await?)
            }
        }
    }
}

/// Asks Postgres until it answers. Pauses stay below the worker's own, so that results come before new claims.
///
/// # Errors
/// Only if what was asked is at fault, so that asking again would not help.
pub async fn retry_while_unavailable<T, F>(queue: Queue, mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut wait = Duration::from_millis(50);
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(problem) if problem.blames_the_data() => return Err(problem),
            Err(problem) => tracing::warn!(%queue, error = chain(&problem), "a job waits for postgres"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(400));
    }
}
