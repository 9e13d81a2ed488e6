//! A connection's timer: one tokio timer for all its requests. Moving a deadline later takes no lock in tokio; a new timer
//! per request would be inserted into and removed from its timer wheel each time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::clock;

type Timeout = Pin<Box<tokio::time::Sleep>>;

/// Reuses the timeout of the previous wait for the next one.
#[derive(Default)]
pub(super) struct ConnectionTimer {
    spare: Arc<Mutex<Option<Timeout>>>,
}

impl Timer for ConnectionTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let timeout = match spare {
            Some(mut timeout) => {
                timeout.as_mut().reset(deadline.into());
                timeout
            }
            None => Box::pin(tokio::time::sleep_until(deadline.into())),
        };
        Box::pin(ReusedSleep { timeout: Some(timeout), spare: Arc::clone(&self.spare) })
    }

    fn now(&self) -> Instant {
        clock::instant()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        if let Some(wait) = sleep.as_mut().downcast_mut_pin::<ReusedSleep>()
            && let Some(timeout) = &mut wait.get_mut().timeout
        {
            timeout.as_mut().reset(new_deadline.into());
        }
    }
}

struct ReusedSleep {
    timeout: Option<Timeout>,
    spare: Arc<Mutex<Option<Timeout>>>,
}

impl Future for ReusedSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timeout.as_mut().map_or(Poll::Ready(()), |it| it.as_mut().poll(context))
    }
}

impl Sleep for ReusedSleep {}

impl Drop for ReusedSleep {
    fn drop(&mut self) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = self.timeout.take();
    }
}
