//! Tasks that have a name, and the order in which everything stops.
#![expect(clippy::disallowed_methods, reason = "this is the file the ban points to")]

use std::future::Future;

use crate::telemetry::chain;
use tokio::task::JoinHandle;
pub use tokio_util::sync::CancellationToken as Stop;
use tracing::Instrument;

/// Starts a task whose log lines carry its name.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::info_span!("task", task = name)))
}

/// Starts a short task on a hot path, where a span would cost more than it tells.
pub fn spawn_unnamed<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Resolves when the process is asked to end: SIGTERM or ctrl-c.
pub async fn asked_to_end() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(problem) => {
            tracing::warn!(error = chain(&problem), "cannot listen for SIGTERM, only for ctrl-c");
            let _ = interrupt.await;
        }
    }
}
