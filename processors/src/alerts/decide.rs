//! Who is told, what follows a call, and when an event has ended. No I/O, no clock, no chance.

use std::time::Duration;

use domain::{IgnoreReason, Mark};
use platform::queue::Schedule;

use super::verdict::Verdict;

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Endpoint {
    /// The company the event is about.
    Company,
    /// Whoever runs this service.
    Operator,
}

impl Endpoint {
    /// The name in `webhook_deliveries.endpoint`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Endpoint::Company => "company",
            Endpoint::Operator => "operator",
        }
    }

    /// The endpoint of that name; the table's own check admits no other.
    pub(super) fn named(name: &str) -> Self {
        if name == Endpoint::Operator.as_str() { Endpoint::Operator } else { Endpoint::Company }
    }
}

/// Everybody who wants to be told of an event; whether each has a receiver.
pub(super) fn endpoints(company: bool, operator: bool) -> Vec<Endpoint> {
    let wanted = [(Endpoint::Company, company), (Endpoint::Operator, operator)];
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(endpoint, _)| endpoint).collect()
}

/// What is written down for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptResult {
    /// The receiver took it.
    Delivered,
    /// It did not, and will be asked again.
    FailedTemporary,
    /// It did not, and will not be asked again.
    FailedPermanent,
    /// It may have.
    Unknown,
    /// There is nobody to call any more.
    Withdrawn,
}

impl AttemptResult {
    /// The name in `webhook_attempts.result`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            AttemptResult::Delivered => "DELIVERED",
            AttemptResult::FailedTemporary => "FAILED_TEMPORARY",
            AttemptResult::FailedPermanent => "FAILED_PERMANENT",
            AttemptResult::Unknown => "UNKNOWN",
            AttemptResult::Withdrawn => "WITHDRAWN",
        }
    }
}

/// How one receiver's share of an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was told.
    Delivered,
    /// It was given up.
    FailedPermanent,
    /// It no longer wanted to be told.
    Withdrawn,
}

impl Outcome {
    /// The name in `webhook_deliveries.outcome`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::FailedPermanent => "failed_permanent",
            Outcome::Withdrawn => "withdrawn",
        }
    }

    /// The outcome of that name; the table's own check admits no other.
    pub(super) fn named(name: &str) -> Self {
        let all = [Outcome::Delivered, Outcome::Withdrawn];
        all.into_iter().find(|it| it.as_str() == name).unwrap_or(Outcome::FailedPermanent)
    }
}

/// What happens after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is over.
    End(Outcome),
    /// The next attempt is due after this long.
    Again(Duration),
}

/// Judges an attempt, the `attempts`-th of its round; `chance` is for the jitter of the next one.
pub(super) fn after(attempts: usize, verdict: &Verdict, schedule: &Schedule, chance: f64) -> (AttemptResult, Next) {
    let (class, retry_after) = match verdict {
        Verdict::Delivered { .. } => return (AttemptResult::Delivered, Next::End(Outcome::Delivered)),
        Verdict::Never { .. } => return (AttemptResult::FailedPermanent, Next::End(Outcome::FailedPermanent)),
        Verdict::Withdrawn => return (AttemptResult::Withdrawn, Next::End(Outcome::Withdrawn)),
        Verdict::Again { class, retry_after, .. } => (class, *retry_after),
    };
    match schedule.wait_after(attempts, retry_after, chance) {
        Some(wait) if class.may_have_arrived() => (AttemptResult::Unknown, Next::Again(wait)),
        Some(wait) => (AttemptResult::FailedTemporary, Next::Again(wait)),
        None if class.may_have_arrived() => (AttemptResult::Unknown, Next::End(Outcome::FailedPermanent)),
        None => (AttemptResult::FailedPermanent, Next::End(Outcome::FailedPermanent)),
    }
}

/// How an event ended, from how each receiver's share of it did; nothing while one of them goes on.
///
/// One that was given up parks the event, whatever the others said: a replay then calls that one alone.
pub(super) fn whole(outcomes: &[Option<Outcome>]) -> Option<Mark> {
    let ended: Vec<Outcome> = outcomes.iter().copied().collect::<Option<_>>()?;
    Some(if ended.contains(&Outcome::FailedPermanent) {
        Mark::Parked
    } else if ended.contains(&Outcome::Delivered) {
        Mark::Done
    } else {
        Mark::Ignored(IgnoreReason::NoWebhook)
    })
}
