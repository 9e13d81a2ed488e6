//! What follows an attempt. No I/O, no clock, no chance.

use domain::Purpose;
use platform::attempt::{self, AttemptResult, Next, Repeat, Verdict};
use platform::queue::Schedule;

/// The attempts of a round, the latest included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) attempts: i32,
    /// How many before the latest may have arrived.
    pub(super) unknowns: i32,
    /// What the message is for.
    pub(super) purpose: Purpose,
}

/// Judges the latest attempt of a round.
///
/// After an attempt that may have arrived, a reply is sent once more in all.
pub(super) fn after(round: Round, verdict: &Verdict, schedule: &Schedule, chance: f64) -> (AttemptResult, Next) {
    let repeat = match round.purpose {
        Purpose::Reply => Repeat::Once { unknowns: round.unknowns },
    };
    attempt::after(round.attempts, verdict, repeat, schedule, chance)
}
