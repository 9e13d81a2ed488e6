//! Batching of small pieces of work into rounds: a piece that arrives long after the last round starts one at once; under
//! load a round waits while more arrive, so that one transaction serves many.

use std::time::{Duration, Instant};

use crate::clock;

/// The shortest time between the beginnings of two rounds.
#[derive(Debug)]
pub(crate) struct Pace {
    period: Duration,
    began_at: Option<Instant>,
}

impl Pace {
    /// No round has begun yet.
    pub(crate) fn new(period: Duration) -> Self {
        Pace { period, began_at: None }
    }

    /// How long the next round has to wait.
    pub(crate) fn remaining(&self) -> Duration {
        self.began_at.map_or(Duration::ZERO, |it| self.period.saturating_sub(it.elapsed()))
    }

    /// Waits until the next round may begin.
    pub(crate) async fn until_next(&self) {
        let wait = self.remaining();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) fn begin(&mut self) {
        self.began_at = Some(clock::instant());
    }
}

/// How often something happens per second, measured over the last 100 ms or more.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    measured: Option<(Instant, usize)>,
    per_s: f64,
}

impl Rate {
    /// Updates the rate; `times` is how often it has happened in total.
    pub(crate) fn measure(&mut self, times: usize) {
        let now = clock::instant();
        let Some((since, before)) = self.measured else {
            self.measured = Some((now, times));
            return;
        };
        let took = now.duration_since(since);
        if took >= Duration::from_millis(100) {
            self.per_s = times.saturating_sub(before) as f64 / took.as_secs_f64();
            self.measured = Some((now, times));
        }
    }

    /// How often it will happen within this duration, at the measured rate.
    pub(crate) fn expected(&self, within: Duration) -> usize {
        (self.per_s * within.as_secs_f64()) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_wait_and_the_next_one_does() {
        let mut pace = Pace::new(Duration::from_secs(60));
        assert_eq!(pace.remaining(), Duration::ZERO);
        pace.begin();
        assert!(pace.remaining() > Duration::from_secs(50));
        let mut past = Pace::new(Duration::ZERO);
        past.begin();
        assert_eq!(past.remaining(), Duration::ZERO);
    }

    #[test]
    fn a_rate_is_that_of_the_last_span() {
        let mut rate = Rate::default();
        rate.measure(1_000);
        assert_eq!(rate.expected(Duration::from_secs(1)), 0, "nothing is known yet");
        let ago = |rate: &mut Rate, times| rate.measured = Some((clock::instant() - Duration::from_secs(2), times));
        ago(&mut rate, 1_000);
        rate.measure(1_200);
        assert!((90..=100).contains(&rate.expected(Duration::from_secs(1))));
        rate.measure(9_000);
        assert!(rate.expected(Duration::from_secs(1)) <= 100, "too soon to be measured again");
        ago(&mut rate, 1_200);
        rate.measure(1_200);
        assert_eq!(rate.expected(Duration::from_secs(1)), 0);
    }
}
