//! Which endpoints an event goes to, what a response means, and when an event has ended. No I/O, clock or randomness.

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
    /// The operator of this service.
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

    /// The endpoint of that name; the table's check allows no other.
    pub(super) fn named(name: &str) -> Self {
        if name == Endpoint::Operator.as_str() { Endpoint::Operator } else { Endpoint::Company }
    }
}

/// The endpoints that an event goes to: those that have a receiver.
pub(super) fn endpoints(company: bool, operator: bool) -> Vec<Endpoint> {
    let wanted = [(Endpoint::Company, company), (Endpoint::Operator, operator)];
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(endpoint, _)| endpoint).collect()
}

/// What a call came to: the receiver's response, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceiverResponse {
    pub(super) verdict: Verdict,
    /// The HTTP status, if there was a response.
    pub(super) status: Option<u16>,
}

impl From<Verdict> for ReceiverResponse {
    fn from(verdict: Verdict) -> Self {
        ReceiverResponse { verdict, status: None }
    }
}

impl ReceiverResponse {
    /// Judges a response by its status alone; the body is not read. 2xx is a success, after 410 no further call is made
    /// (Standard Webhooks), after everything else there is a retry.
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
        ReceiverResponse { verdict, status: Some(status) }
    }

    /// What it means for the receiver's circuit.
    pub(super) fn health(&self) -> Health {
        match self.verdict.class() {
            Some("server_error" | "unreachable" | "timeout" | "connection_lost") => Health::Failing,
            _ if self.status.is_some() => Health::Healthy,
            _ => Health::Unclear,
        }
    }
}

/// How an event ended, from the outcomes of its deliveries; `None` while one of them goes on.
///
/// One delivery that failed dead-letters the event, whatever the other's outcome: a replay then repeats that one alone.
pub(super) fn event_outcome(outcomes: &[Option<Outcome>]) -> Option<EventOutcome> {
    let ended: Vec<Outcome> = outcomes.iter().copied().collect::<Option<_>>()?;
    Some(if ended.contains(&Outcome::FailedPermanent) {
        EventOutcome::DeadLettered
    } else if ended.contains(&Outcome::Done) {
        EventOutcome::Done
    } else {
        EventOutcome::Ignored(IgnoreReason::NoWebhook)
    })
}
