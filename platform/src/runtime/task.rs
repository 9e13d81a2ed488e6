//! Named tasks, futures that survive being dropped, and the signal to shut down.
#![expect(clippy::disallowed_methods, reason = "this is the file the ban points to")]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

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

/// Starts the task of one connection. Its log lines are those of requests, so they carry no task name.
pub(crate) fn spawn_connection<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(future);
}

/// Runs a future to completion even if the caller drops it: dropped before its end, it continues as a task.
///
/// Cheaper than spawning it at once, which costs every request two task switches for the few callers that disconnect.
pub fn run_to_completion<F>(future: F) -> RunToCompletion<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    RunToCompletion(Some(Box::pin(future)))
}

pub struct RunToCompletion<F>(Option<Pin<Box<F>>>)
where
    F: Future<Output: Send> + Send + 'static;

impl<F> Future for RunToCompletion<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = self.0.as_mut() else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<F> Drop for RunToCompletion<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // A future that panicked cannot be polled again.
        if let Some(future) = self.0.take().filter(|_| !std::thread::panicking())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(future);
        }
    }
}

/// Resolves on SIGTERM or ctrl-c.
pub async fn shutdown_signal() {
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_future_dropped_half_way_goes_on() {
        let (go, gone) = oneshot::channel::<()>();
        let (say, said) = oneshot::channel();
        let mut work = run_to_completion(async move {
            gone.await.unwrap();
            say.send("done").unwrap();
        });
        tokio::select! {
            biased;
            () = &mut work => panic!("it was not let go yet"),
            () = std::future::ready(()) => {}
        }
        drop(work);
        go.send(()).unwrap();
        assert_eq!(said.await, Ok("done"));
    }

    #[tokio::test]
    async fn a_future_that_has_completed_does_not_run_again() {
        let (say, mut said) = tokio::sync::mpsc::channel(2);
        run_to_completion(async move { say.send("done").await.unwrap() }).await;
        assert_eq!((said.recv().await, said.recv().await), (Some("done"), None));
    }
}
