//! A connection's timer: one of tokio's for all its requests. Of one that is only ever put off, tokio takes no lock; a new one
//! for every request is entered into its wheel and taken out again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::clock;

type Timeout = Pin<Box<tokio::time::Sleep>>;

/// The timer; its spare timeout is used again by the next wait.
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
        Box::pin(Wait { timeout: Some(timeout), spare: Arc::clone(&self.spare) })
    }

    fn now(&self) -> Instant {
        clock::instant()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        if let Some(wait) = sleep.as_mut().downcast_mut_pin::<Wait>()
            && let Some(timeout) = &mut wait.get_mut().timeout
        {
            timeout.as_mut().reset(new_deadline.into());
        }
    }
}

struct Wait {
    timeout: Option<Timeout>,
    spare: Arc<Mutex<Option<Timeout>>>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timeout.as_mut().map_or(Poll::Ready(()), |it| it.as_mut().poll(context))
    }
}

impl Sleep for Wait {}

impl Drop for Wait {
    fn drop(&mut self) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = self.timeout.take();
    }
}
