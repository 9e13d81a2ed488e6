//! What became of one call. Pure.
//!
//! The status line is the whole answer: what follows it is not read. 2xx is taken, 410 says never again (Standard
//! Webhooks), everything else is asked again.

use std::time::Duration;

use platform::queue::Health;

/// No `Retry-After` is believed beyond six hours, the longest wait of the schedule.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3_600);

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver has it.
    Delivered {
        /// What it answered.
        status: u16,
    },
    /// It has it not, or nobody knows; it is called again.
    Again {
        /// Why.
        class: Class,
        /// What it answered, if it did.
        status: Option<u16>,
        /// The wait it asks for.
        retry_after: Option<Duration>,
    },
    /// It has it not, and is not called again.
    Never {
        /// Why.
        class: Class,
        /// What it answered, if it did.
        status: Option<u16>,
    },
    /// There is nobody to call any more.
    Withdrawn,
}

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// 410: it wants no more.
    Gone,
    /// The URL cannot be called.
    BadAddress,
    /// The URL leads where we do not go.
    ForbiddenAddress,
    /// It answered with another address; we follow none.
    Redirected,
    /// It says the call is wrong.
    Refused,
    /// It says there are too many.
    RateLimited,
    /// It fell over.
    ServerError,
    /// No connection was had.
    Unreachable,
    /// It took the call and said nothing in time.
    Timeout,
    /// It took the call and hung up.
    ConnectionLost,
    /// Its secret does not open: our own fault.
    SealedSecret,
    /// Where it is could not be read: our own fault.
    UnreadableWebhook,
    /// This process knows no operator; another one did.
    NoOperator,
    /// The worker that called it is gone.
    LeaseRanOut,
    /// Its circuit was open for the whole schedule.
    CircuitOpen,
}

impl Class {
    const ALL: [Class; 15] = [
        Class::Gone,
        Class::BadAddress,
        Class::ForbiddenAddress,
        Class::Redirected,
        Class::Refused,
        Class::RateLimited,
        Class::ServerError,
        Class::Unreachable,
        Class::Timeout,
        Class::ConnectionLost,
        Class::SealedSecret,
        Class::UnreadableWebhook,
        Class::NoOperator,
        Class::LeaseRanOut,
        Class::CircuitOpen,
    ];

    /// The name in rows and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Class::Gone => "gone",
            Class::BadAddress => "bad_address",
            Class::ForbiddenAddress => "forbidden_address",
            Class::Redirected => "redirected",
            Class::Refused => "refused",
            Class::RateLimited => "rate_limited",
            Class::ServerError => "server_error",
            Class::Unreachable => "unreachable",
            Class::Timeout => "timeout",
            Class::ConnectionLost => "connection_lost",
            Class::SealedSecret => "sealed_secret",
            Class::UnreadableWebhook => "unreadable_webhook",
            Class::NoOperator => "no_operator",
            Class::LeaseRanOut => "lease_ran_out",
            Class::CircuitOpen => "circuit_open",
        }
    }

    /// The class of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Class::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// Whether the receiver may have taken it all the same.
    pub(super) fn may_have_arrived(self) -> bool {
        matches!(self, Class::Timeout | Class::ConnectionLost | Class::LeaseRanOut)
    }

    /// What it says of the receiver.
    pub(super) fn health(self) -> Health {
        match self {
            Class::ServerError | Class::Unreachable | Class::Timeout | Class::ConnectionLost => Health::Failing,
            Class::Gone | Class::Redirected | Class::Refused | Class::RateLimited => Health::Healthy,
            Class::BadAddress
            | Class::ForbiddenAddress
            | Class::SealedSecret
            | Class::UnreadableWebhook
            | Class::NoOperator
            | Class::LeaseRanOut
            | Class::CircuitOpen => Health::Unclear,
        }
    }
}

impl Verdict {
    /// A call without an answer that is made again.
    pub(super) fn again(class: Class) -> Self {
        Verdict::Again { class, status: None, retry_after: None }
    }

    /// A call that cannot be made.
    pub(super) fn never(class: Class) -> Self {
        Verdict::Never { class, status: None }
    }

    /// Judges an answer.
    pub(super) fn of_answer(status: u16, retry_after: Option<Duration>) -> Self {
        let class = match status {
            200..300 => return Verdict::Delivered { status },
            410 => return Verdict::Never { class: Class::Gone, status: Some(status) },
            429 => Class::RateLimited,
            500.. => Class::ServerError,
            400..500 => Class::Refused,
            ..400 => Class::Redirected,
        };
        Verdict::Again { class, status: Some(status), retry_after: retry_after.map(|it| it.min(LONGEST_WAIT)) }
    }

    /// Why it failed, if it did.
    pub(super) fn class(&self) -> Option<Class> {
        match self {
            Verdict::Again { class, .. } | Verdict::Never { class, .. } => Some(*class),
            Verdict::Delivered { .. } | Verdict::Withdrawn => None,
        }
    }

    /// What was answered, if anything was.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Verdict::Delivered { status } => Some(*status),
            Verdict::Again { status, .. } | Verdict::Never { status, .. } => *status,
            Verdict::Withdrawn => None,
        }
    }
}
