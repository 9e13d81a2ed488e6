//! Attempts to send something to a provider or a receiver: the verdict on one, and what follows. No I/O, no clock, no
//! randomness.

use std::time::Duration;

use crate::egress::TransportError;
use crate::queue::Schedule;

/// How one attempt ended. A class is one of a fixed set of names, for metrics and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// It was not performed, and a later attempt may be.
    Temporary {
        class: &'static str,
        /// The wait that the provider asks for.
        retry_after: Option<Duration>,
    },
    /// It was not performed, and none will be.
    Permanent {
        class: &'static str,
    },
    /// It may have been performed: there was no answer.
    Unknown {
        class: &'static str,
    },
    /// It was not made, because it is no longer wanted.
    Withdrawn,
}

impl Verdict {
    /// A temporary failure for which the provider asks no wait.
    pub const fn temporary(class: &'static str) -> Self {
        Verdict::Temporary { class, retry_after: None }
    }

    pub const fn permanent(class: &'static str) -> Self {
        Verdict::Permanent { class }
    }

    pub const fn unknown(class: &'static str) -> Self {
        Verdict::Unknown { class }
    }

    /// The failure's class; none for a success and a withdrawal.
    pub fn class(&self) -> Option<&'static str> {
        match self {
            Verdict::Done | Verdict::Withdrawn => None,
            Verdict::Temporary { class, .. } | Verdict::Permanent { class } | Verdict::Unknown { class } => Some(class),
        }
    }
}

impl From<TransportError> for Verdict {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::BadAddress | TransportError::ForbiddenAddress => Verdict::permanent(error.class()),
            TransportError::Unreachable(_) => Verdict::temporary(error.class()),
            TransportError::Timeout | TransportError::ConnectionLost(_) => Verdict::unknown(error.class()),
        }
    }
}

/// Whether a further attempt is made after one that may have been performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// As after a failure: the receiver recognises a repeat by its id.
    Freely,
    /// One further attempt in total, however that one ends.
    Once {
        /// How many attempts before the latest may have been performed.
        unknowns: i32,
    },
}

/// The result recorded for an attempt, by the names of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    Done,
    /// It failed, and another one follows.
    FailedTemporary,
    /// It failed, and none follows.
    FailedPermanent,
    /// It may have been performed.
    Unknown,
    /// It was no longer wanted.
    Withdrawn,
}

impl AttemptResult {
    /// The name in rows; `done` is that of a success.
    pub fn name(self, done: &'static str) -> &'static str {
        match self {
            AttemptResult::Done => done,
            AttemptResult::FailedTemporary => "FAILED_TEMPORARY",
            AttemptResult::FailedPermanent => "FAILED_PERMANENT",
            AttemptResult::Unknown => "UNKNOWN",
            AttemptResult::Withdrawn => "WITHDRAWN",
        }
    }
}

/// How all attempts together end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// No further attempt is made: it is a dead letter.
    FailedPermanent,
    /// It was no longer wanted.
    Withdrawn,
}

impl Outcome {
    /// The name in rows; `done` is that of a success.
    pub fn name(self, done: &'static str) -> &'static str {
        match self {
            Outcome::Done => done,
            Outcome::FailedPermanent => "failed_permanent",
            Outcome::Withdrawn => "withdrawn",
        }
    }

    /// The outcome of that name in rows, whose own check allows no other.
    pub fn named(name: &str, done: &'static str) -> Self {
        let all = [Outcome::Done, Outcome::Withdrawn];
        all.into_iter().find(|it| it.name(done) == name).unwrap_or(Outcome::FailedPermanent)
    }
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another one after this long.
    Retry(Duration),
    End(Outcome),
}

impl Next {
    /// How it ended, if it did.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Next::Retry(_) => None,
            Next::End(outcome) => Some(outcome),
        }
    }
}

/// The result of the latest of `attempts` attempts, and what follows. `jitter_factor`, from 0 to 1, is how much of
/// the jitter the next wait gets.
pub fn after(
    attempts: i32,
    verdict: &Verdict,
    repeat: Repeat,
    schedule: &Schedule,
    jitter_factor: f64,
) -> (AttemptResult, Next) {
    const FAIL: Next = Next::End(Outcome::FailedPermanent);
    let asked = if let Verdict::Temporary { retry_after, .. } = verdict { *retry_after } else { None };
    let attempts = usize::try_from(attempts).unwrap_or(usize::MAX);
    let may_repeat = matches!(repeat, Repeat::Freely | Repeat::Once { unknowns: 0 });
    let wait = schedule.wait_after(attempts, asked, jitter_factor).filter(|_| may_repeat);
    match (verdict, wait) {
        (Verdict::Done, _) => (AttemptResult::Done, Next::End(Outcome::Done)),
        (Verdict::Withdrawn, _) => (AttemptResult::Withdrawn, Next::End(Outcome::Withdrawn)),
        (Verdict::Permanent { .. }, _) => (AttemptResult::FailedPermanent, FAIL),
        (Verdict::Unknown { .. }, wait) => (AttemptResult::Unknown, wait.map_or(FAIL, Next::Retry)),
        (Verdict::Temporary { .. }, Some(wait)) => (AttemptResult::FailedTemporary, Next::Retry(wait)),
        (Verdict::Temporary { .. }, None) => (AttemptResult::FailedPermanent, FAIL),
    }
}
