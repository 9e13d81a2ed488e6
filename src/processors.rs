//! The list of processors. Name, topics, jobs, settings, help, metrics, health and the order in reports come from it.
//!
//! A further processor is a folder with a `PROCESSOR`, a `Config` and a `run`, and a line here.

use domain::ProcessorName;
use platform::egress::Policy;
use platform::processor::{Context, Entry, Error};
use platform::queue::{self, Queue};
use platform::task::{self, Stop};
use platform::telemetry::chain;
use platform::{heartbeat, instance};
use tokio::task::JoinSet;

use crate::Settings;

/// Hands the list to a macro, as `folder in crate`.
macro_rules! with_processors {
    ($macro:ident) => {
        $macro! {
            reply in processors,
            delivery in processors,
            metering in processors,
            alerts in processors,
            archive in analytics,
            rollups in analytics,
        }
    };
}
pub(crate) use with_processors;

macro_rules! define {
    ($($section:ident in $krate:ident),+ $(,)?) => {
        /// Every processor, in the order in which events pass them.
        pub const ALL: &[Entry] = &[$(::$krate::$section::PROCESSOR),+];

        async fn run_by_name(name: ProcessorName, context: Context, settings: Settings, stop: Stop) -> Result<(), Error> {
            match name.as_str() {
                $(stringify!($section) => ::$krate::$section::run(context, settings.$section, stop).await,)+
                _ => Ok(()),
            }
        }
    };
}
with_processors!(define);

/// The processor of that name.
pub fn named(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|it| it.name.as_str() == name)
}

/// The names of all, for messages.
pub fn names() -> String {
    ALL.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Which addresses the webhooks of companies may be sent to.
pub fn webhook_policy(settings: &Settings) -> Policy {
    settings.alerts.policy()
}

/// Their queues.
pub fn queues() -> Vec<Queue> {
    ALL.iter().filter_map(|it| it.queue).collect()
}

/// Runs the named processors until stopped; Postgres or Kafka away only make them wait.
///
/// # Errors
/// If one cannot start, or ends by itself.
pub async fn run(names: &[ProcessorName], context: Context, settings: Settings, stop: Stop) -> Result<(), Error> {
    let stop = stop.child_token();
    task::spawn("queues", queue::keep_measuring(context.db.clone(), queues(), stop.clone()));
    let mut running = JoinSet::new();
    for &name in names {
        running.spawn(run_one(name, context.clone(), settings.clone(), stop.clone()));
    }
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|problem| Err(Error::Panicked(problem)));
        if let Err(problem) = &ended {
            tracing::error!(error = chain(problem), "processor could not go on; the others end too");
        }
        // If one ends by itself, so do the others, and then the process, so that its supervisor notices.
        stop.cancel();
        result = result.and(ended);
    }
    result
}

/// One processor, under its name, with a heartbeat that lasts as long as it does.
async fn run_one(name: ProcessorName, context: Context, settings: Settings, stop: Stop) -> Result<(), Error> {
    let Some(_held) = instance::hold(&context.db, name, &context.instance, &stop).await else { return Ok(()) };
    let alive = stop.child_token();
    let beats = heartbeat::run(context.db.clone(), name, context.instance.clone(), alive.clone());
    task::spawn("heartbeat", beats);
    let _ends_with_us = alive.drop_guard();
    run_by_name(name, context, settings, stop).await
}
