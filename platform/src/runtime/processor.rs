//! What every processor is made of: a consumer that handles events, and a worker for slow jobs.

use std::sync::Arc;
use std::time::Duration;

use domain::{ProcessorName, Topic};
use tokio::task::JoinError;

use crate::consumer::{self, Handler};
use crate::postgres::{Db, Failure};
use crate::queue::{self, Periodic, Queue, Wake, Work, Worker};
use crate::seal::Sealer;
use crate::task::{self, Stop};
use crate::telemetry::chain;
use crate::{kafka, object_store, settings};

/// A processor, as the list of processors describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Also the name of its section of the settings.
    pub name: ProcessorName,
    /// What it does, in one line.
    pub help: &'static str,
    pub topics: &'static [Topic],
    /// The queue of its jobs, if it has slow work.
    pub queue: Option<Queue>,
    /// Whether an operator may remove its jobs.
    pub removal: Removal,
    /// Its settings that are lists, as `section.key`.
    pub list_settings: &'static [&'static str],
    /// Environment variables of earlier versions, each with the setting that it sets now.
    pub older_settings: &'static [(&'static str, &'static str)],
}

/// Whether an operator may cancel a live job of a queue, or drop a dead one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The job is all there is of the work: no other row depends on it.
    Allowed,
    /// Rows of the processor would be left without their job. The text says what that leads to and what to do instead.
    Refused(&'static str),
}

impl Entry {
    /// An entry with defaults: no queue, and no removal of jobs.
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
    /// Where files are kept.
    pub object_store: object_store::Config,
    /// This process's stable name: after a restart it reclaims what it held before under the same name.
    pub instance: String,
}

/// A processor could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The consumer could not start, or ended.
    #[error("consumer could not go on")]
    Consumer(#[from] consumer::Error),
    /// The worker ended although it was not stopped.
    #[error("worker ended by itself")]
    WorkerEnded,
    #[error("task panicked")]
    Panicked(#[from] JoinError),
    /// A setting that loading could not check turned out to be unusable.
    #[error("settings cannot be used")]
    Settings(#[from] settings::Error),
    /// The client of a provider cannot be made.
    #[error("client of a provider cannot be made")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
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

    /// Works until stopped, on jobs that are enqueued at regular times; for a processor that reads no topic.
    ///
    /// # Errors
    /// If the worker has ended by itself.
    pub async fn work_periodically<W: Work>(
        self,
        work: W,
        periodic: &[Periodic],
        config: queue::Config,
        stop: Stop,
    ) -> Result<(), Error> {
        let wake = Wake::default();
        for &job in periodic {
            let ticks = queue::run_periodic(job, W::QUEUE, self.db.clone(), wake.clone(), stop.clone());
            task::spawn("periodic job", ticks);
        }
        let worker = Worker { work, db: self.db, config, instance: self.instance, wake };
        task::spawn("worker", worker.run(stop.clone())).await?;
        if stop.is_cancelled() { Ok(()) } else { Err(Error::WorkerEnded) }
    }

    /// Consumes and works until stopped. If one of the two ends before it is stopped, so does the other.
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

/// Repeats a query until Postgres answers. The pauses are shorter than the worker's, so that results are written before
/// new jobs are claimed.
///
/// # Errors
/// Only if the data is at fault ([`Failure::blames_the_data`]), so that a repeat would not help.
pub async fn retry_while_unavailable<T, F>(queue: Queue, mut query: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut wait = Duration::from_millis(50);
    loop {
        match query().await {
            Ok(result) => return Ok(result),
            Err(problem) if problem.blames_the_data() => return Err(problem),
            Err(problem) => tracing::warn!(%queue, error = chain(&problem), "a job waits for postgres"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(400));
    }
}
