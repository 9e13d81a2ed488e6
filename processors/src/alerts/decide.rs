//! Who is told, what follows a call, and when an event has ended. No I/O, no clock, no chance.

use std::time::Duration;

use domain::{EventOutcome, IgnoreReason};
use platform::attempt::{Outcome, Verdict};
use platform::queue::Health;

/// No `Retry-After` is believed beyond six hours, the longest wait of the schedule.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3_600);

/// The class of a call that was held back for as long as its retries last.
pub(super) const CIRCUIT_OPEN: &str = "circuit_open";

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

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The verdict on it.
    pub(super) verdict: Verdict,
    /// The status that was answered, if one was.
    pub(super) status: Option<u16>,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Answer { verdict, status: None }
    }
}

impl Answer {
    /// Judges a status line, which is the whole answer: what follows it is not read. 2xx is a success, 410 says never
    /// again (Standard Webhooks), everything else is called again.
    pub(super) fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        let retry_after = retry_after.map(|it| it.min(LONGEST_WAIT));
        let again = |class| Verdict::Temporary { class, retry_after };
        let verdict = match status {
            200..300 => Verdict::Done,
            410 => Verdict::permanent("gone"),
            429 => again("rate_limited"),
            500.. => again("server_error"),
            400..500 => again("refused"),
            ..400 => again("redirected"),
        };
        Answer { verdict, status: Some(status) }
    }

    /// What it says of the receiver.
    pub(super) fn health(&self) -> Health {
        match self.verdict.class() {
            Some("server_error" | "unreachable" | "timeout" | "connection_lost") => Health::Failing,
            _ if self.status.is_some() => Health::Healthy,
            _ => Health::Unclear,
        }
    }
}

/// How an event ended, from how each receiver's share of it did; nothing while one of them goes on.
///
/// One that was given up dead-letters the event, whatever the others said: a replay then calls that one alone.
pub(super) fn whole(outcomes: &[Option<Outcome>]) -> Option<EventOutcome> {
    let ended: Vec<Outcome> = outcomes.iter().copied().collect::<Option<_>>()?;
    Some(if ended.contains(&Outcome::FailedPermanent) {
        EventOutcome::DeadLettered
    } else if ended.contains(&Outcome::Done) {
        EventOutcome::Done
    } else {
        EventOutcome::Ignored(IgnoreReason::NoWebhook)
    })
}
