//! What follows an attempt. No I/O, no clock, no chance.

use std::time::Duration;

use domain::Purpose;
use platform::queue::Schedule;

use super::whaticket::Verdict;

/// A delivery before the verdict on its latest attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Attempts of this round, the latest included.
    pub(super) attempts: usize,
    /// Earlier attempts of this round whose end nobody saw.
    pub(super) unknowns: usize,
    /// What it is for.
    pub(super) purpose: Purpose,
}

/// What is written down for the attempt, by the names of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptResult {
    /// The provider took it.
    Sent,
    /// It was not sent, and will be tried again.
    FailedTemporary,
    /// It was not sent, and will not be tried again.
    FailedPermanent,
    /// Nobody knows.
    Unknown,
}

impl AttemptResult {
    /// The name in `delivery_attempts.result`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            AttemptResult::Sent => "SENT",
            AttemptResult::FailedTemporary => "FAILED_TEMPORARY",
            AttemptResult::FailedPermanent => "FAILED_PERMANENT",
            AttemptResult::Unknown => "UNKNOWN",
        }
    }
}

/// What happens to the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is over, well.
    Sent,
    /// Its next attempt is due after this long.
    Again(Duration),
    /// It is over: parked.
    GiveUp,
}

impl Next {
    /// The name in `deliveries.outcome`, where it is over.
    pub(super) fn outcome(self) -> Option<&'static str> {
        match self {
            Next::Sent => Some("sent"),
            Next::Again(_) => None,
            Next::GiveUp => Some("failed_permanent"),
        }
    }
}

/// Judges an attempt.
///
/// After an attempt whose end nobody saw, a reply is sent once more in all: the first may have arrived.
pub(super) fn after(standing: Standing, verdict: &Verdict, schedule: &Schedule, chance: f64) -> (AttemptResult, Next) {
    let asked = if let Verdict::Temporary { retry_after, .. } = verdict { *retry_after } else { None };
    let wait = schedule.wait_after(standing.attempts, asked, chance);
    // The one purpose there is; another one may allow no second send, and then says so here.
    let Purpose::Reply = standing.purpose;
    match (verdict, wait) {
        (Verdict::Sent, _) => (AttemptResult::Sent, Next::Sent),
        (Verdict::Permanent { .. }, _) => (AttemptResult::FailedPermanent, Next::GiveUp),
        (Verdict::Unknown { .. }, Some(wait)) if standing.unknowns == 0 => (AttemptResult::Unknown, Next::Again(wait)),
        (Verdict::Unknown { .. }, _) => (AttemptResult::Unknown, Next::GiveUp),
        (Verdict::Temporary { .. }, Some(wait)) if standing.unknowns == 0 => {
            (AttemptResult::FailedTemporary, Next::Again(wait))
        }
        (Verdict::Temporary { .. }, _) => (AttemptResult::FailedPermanent, Next::GiveUp),
    }
}
