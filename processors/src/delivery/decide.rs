//! What follows an attempt. No I/O, no clock, no chance.

use domain::Purpose;
use platform::attempt::{self, AttemptResult, Next, Repeat, Round, Verdict};
use platform::queue::Schedule;

/// Judges the latest attempt of a round.
///
/// After an attempt that may have arrived, a reply is sent once more in all.
pub(super) fn after(
    round: Round,
    purpose: Purpose,
    verdict: &Verdict,
    schedule: &Schedule,
    chance: f64,
) -> (AttemptResult, Next) {
    let repeat = match purpose {
        Purpose::Reply => Repeat::Once,
    };
    attempt::after(round, verdict, repeat, schedule, chance)
}
