//! When to retry: a schedule of waits, and the waits that providers ask for.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::settings;

/// Most retries of a schedule.
const MAX_RETRIES: usize = 20;

/// The waits before the retries of a job; their number is the number of retries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Waits before the retries, in seconds.
    pub retry_after_s: Vec<f64>,
    /// Multiplies every wait: below 1 for tests and demonstrations.
    pub time_scale: f64,
    /// At most this share of a wait is added at random, so that jobs that failed at once are not retried at once: 0 to 1.
    pub jitter: f64,
}

impl Schedule {
    /// A schedule of these waits, without jitter.
    pub fn of_seconds(retry_after_s: &[f64]) -> Self {
        Schedule { retry_after_s: retry_after_s.to_vec(), time_scale: 1.0, jitter: 0.0 }
    }

    /// Checks the settings `retry_after_s`, `time_scale` and `jitter` of a section.
    ///
    /// # Errors
    /// Names the invalid setting.
    pub fn validate(&self, section: &str, longest_s: f64) -> Result<(), settings::Error> {
        let invalid = |key: &str, problem: String| Err(settings::Error::invalid(format!("{section}.{key}"), problem));
        if self.retry_after_s.len() > MAX_RETRIES
            || !self.retry_after_s.iter().all(|seconds| (0.0..=longest_s).contains(seconds))
        {
            let problem = format!("at most {MAX_RETRIES} waits, each between 0 and {longest_s} seconds");
            return invalid("retry_after_s", problem);
        }
        if !(0.0..=10.0).contains(&self.time_scale) {
            return invalid("time_scale", "must be between 0 and 10".into());
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return invalid("jitter", "must be between 0 and 1".into());
        }
        Ok(())
    }

    /// The wait after the `attempts`-th attempt; `None` when that was the last. `jitter_factor` is between 0 and 1; the wait that a
    /// provider asks for counts only if it is longer than the schedule's.
    pub fn wait_after(&self, attempts: usize, asked: Option<Duration>, jitter_factor: f64) -> Option<Duration> {
        let seconds = self.retry_after_s.get(attempts.checked_sub(1)?)?;
        let scaled = seconds * self.time_scale * (1.0 + self.jitter * jitter_factor.clamp(0.0, 1.0));
        Some(Duration::from_secs_f64(scaled).max(asked.unwrap_or_default()))
    }

    /// The sum of all waits, without jitter: how long a job without a deadline may be held back.
    pub fn total(&self) -> Duration {
        Duration::from_secs_f64(self.retry_after_s.iter().sum::<f64>() * self.time_scale)
    }
}

/// Reads a `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3). Capped at one day.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds as f64,
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
            (date - now).total(jiff::Unit::Second).ok()?
        }
    };
    Some(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_S)))
}

/// Reads the `retryDelay` of a `google.rpc.RetryInfo`: a duration in seconds with the suffix `s`, such as `18.5s`.
pub fn retry_info(delay: &str) -> Option<Duration> {
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    seconds.is_finite().then(|| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_S)))
}

const LONGEST_S: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_ends_with_its_last_wait() {
        let schedule = Schedule { time_scale: 0.5, ..Schedule::of_seconds(&[5.0, 15.0]) };
        let waits: Vec<_> = (0..4).map(|attempts| schedule.wait_after(attempts, None, 0.0)).collect();
        let seconds = Duration::from_secs_f64;
        assert_eq!(waits, [None, Some(seconds(2.5)), Some(seconds(7.5)), None]);
        assert_eq!(schedule.total(), seconds(10.0));
    }

    #[test]
    fn jitter_adds_its_share_and_a_provider_only_ever_more() {
        let schedule = Schedule { jitter: 0.5, ..Schedule::of_seconds(&[10.0]) };
        assert_eq!(schedule.wait_after(1, None, 1.0), Some(Duration::from_secs(15)));
        assert_eq!(schedule.wait_after(1, Some(Duration::from_secs(3)), 0.0), Some(Duration::from_secs(10)));
        assert_eq!(schedule.wait_after(1, Some(Duration::from_secs(60)), 1.0), Some(Duration::from_secs(60)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 01 Nov 2026 10:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 01 Nov 2026 09:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999", now), Some(Duration::from_secs(86_400)));
        for bad in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(bad, now), None, "{bad}");
        }
        assert_eq!(retry_info("18.5s"), Some(Duration::from_millis(18_500)));
        for bad in ["", "18", "s", "NaNs", "infs"] {
            assert_eq!(retry_info(bad), None, "{bad}");
        }
    }
}
