//! Tasks that have a name, and the order in which everything stops.
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

/// Starts the task of one connection. Its log lines are those of requests, so they carry no task's name.
pub(crate) fn spawn_connection<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(future);
}

/// Work that ends even if nobody waits for it any more: dropped before its end, it goes on as a task.
///
/// Cheaper than a task from the start, which costs two changes of task on every request for the few that hang up.
pub fn to_its_end<F>(future: F) -> ToItsEnd<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    ToItsEnd(Some(Box::pin(future)))
}

pub struct ToItsEnd<F>(Option<Pin<Box<F>>>)
where
    F: Future<Output: Send> + Send + 'static;

impl<F> Future for ToItsEnd<F>
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

impl<F> Drop for ToItsEnd<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // One that panicked is not taken up again.
        if let Some(future) = self.0.take().filter(|_| !std::thread::panicking())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(future);
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_half_way_goes_on() {
        let (go, gone) = oneshot::channel::<()>();
        let (say, said) = oneshot::channel();
        let mut work = to_its_end(async move {
            gone.await.unwrap();
            say.send("done").unwrap();
        });
        tokio::select! {
            biased;
            () = &mut work => panic!("nobody said go"),
            () = std::future::ready(()) => {}
        }
        drop(work);
        go.send(()).unwrap();
        assert_eq!(said.await, Ok("done"));
    }

    #[tokio::test]
    async fn what_came_to_its_end_is_not_done_again() {
        let (say, mut said) = tokio::sync::mpsc::channel(2);
        to_its_end(async move { say.send("done").await.unwrap() }).await;
        assert_eq!((said.recv().await, said.recv().await), (Some("done"), None));
    }
}
