//! What follows an attempt. No I/O, clock or randomness.

use domain::Purpose;
use platform::attempt::{self, AttemptResult, Next, Repeat, Verdict};
use platform::queue::Schedule;

/// The attempts since the delivery was last enqueued (a round), the latest included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) attempts: i32,
    /// How many attempts before the latest may have arrived.
    pub(super) unknowns: i32,
    pub(super) purpose: Purpose,
}

/// What follows the latest attempt of a round. `jitter_factor`, from 0 to 1, is how much of the jitter the next
/// wait gets.
///
/// After an attempt that may have arrived, a reply is sent once more at most.
pub(super) fn after(round: Round, verdict: &Verdict, schedule: &Schedule, jitter_factor: f64) -> (AttemptResult, Next) {
    let repeat = match round.purpose {
        Purpose::Reply => Repeat::Once { unknowns: round.unknowns },
    };
    attempt::after(round.attempts, verdict, repeat, schedule, jitter_factor)
}
