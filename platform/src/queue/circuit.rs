//! Circuit breakers: a provider that does not answer with a credential is not called again for a while.
//!
//! One per (provider, credential), in the memory of a process. Closed: calls are made. Open after `failures` failures in
//! a row: no call is made until its wait is over, and each wait is twice the one before. Half open: one call at a
//! time is made as a probe; its success closes the circuit, its failure opens it again. (M. Nygard, Release It!, ch. 5.)

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use domain::CompanyId;
use serde::{Deserialize, Serialize};

/// A provider and the credential it is called with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Circuit {
    /// The kind of provider; a metric label.
    pub provider: &'static str,
    /// Identifies the credential without containing it: a company, a host, a setting's name.
    pub credential: String,
}

/// What a call says about its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered, with whatever result.
    Healthy,
    /// It did not answer, or not with this credential.
    Failing,
    /// The call says nothing about it.
    Unclear,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Failures in a row that open a circuit.
    pub failures: u32,
    /// The first wait before a probe, in milliseconds; each following one is twice as long.
    pub open_ms: u64,
    /// The longest wait, in milliseconds.
    pub open_cap_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { failures: 8, open_ms: 5_000, open_cap_ms: 60_000 }
    }
}

/// Whether a call may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CircuitDecision {
    Call(CallKind),
    /// Not before this wait is over.
    HeldBack(Duration),
}

/// Whether a call is the probe of an open circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// Made while the circuit was closed, and had been opened this often.
    Normal { openings: u64 },
    /// It decides whether the open circuit closes.
    Probe,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    openings: u64,
    open: Option<Open>,
    in_flight: usize,
    companies: BTreeSet<CompanyId>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    until: Instant,
    wait: Duration,
    probing: bool,
}

/// The circuits of one worker.
#[derive(Debug)]
pub(super) struct Circuits {
    config: Config,
    max_in_flight: usize,
    states: HashMap<Circuit, State>,
    of_company: HashMap<CompanyId, Circuit>,
}

/// How long a job waits when the provider has `max_in_flight` calls already.
const FULL_WAIT: Duration = Duration::from_millis(100);

impl Circuits {
    /// All circuits are closed; at most `max_in_flight` calls are in flight through each.
    pub(super) fn new(config: Config, max_in_flight: usize) -> Self {
        Circuits { config, max_in_flight, states: HashMap::new(), of_company: HashMap::new() }
    }

    /// Requests a call for a company; the end of a call that may be made must be reported.
    pub(super) fn request(&mut self, circuit: &Circuit, company: CompanyId, now: Instant) -> CircuitDecision {
        if self.of_company.get(&company) != Some(circuit) {
            self.of_company.insert(company, circuit.clone());
        }
        if !self.states.contains_key(circuit) {
            self.states.insert(circuit.clone(), State::default());
        }
        let Some(state) = self.states.get_mut(circuit) else {
            return CircuitDecision::Call(CallKind::Normal { openings: 0 });
        };
        state.companies.insert(company);
        match &mut state.open {
            Some(open) if open.probing => return CircuitDecision::HeldBack(open.wait),
            Some(open) if now < open.until => return CircuitDecision::HeldBack(open.until - now),
            Some(open) => {
                open.probing = true;
                state.in_flight += 1;
                return CircuitDecision::Call(CallKind::Probe);
            }
            None if state.in_flight >= self.max_in_flight => return CircuitDecision::HeldBack(FULL_WAIT),
            None => {}
        }
        state.in_flight += 1;
        CircuitDecision::Call(CallKind::Normal { openings: state.openings })
    }

    /// Reports the end of a call; returns whether that opened or closed the circuit. A call that was made before it
    /// opened changes nothing, neither while it is open, where only the probe decides, nor afterwards.
    pub(super) fn report(
        &mut self,
        circuit: &Circuit,
        kind: CallKind,
        health: Health,
        now: Instant,
    ) -> Option<CircuitChange> {
        let config = self.config;
        let state = self.states.get_mut(circuit)?;
        state.in_flight = state.in_flight.saturating_sub(1);
        let first = Duration::from_millis(config.open_ms);
        match (kind, health, &mut state.open) {
            (CallKind::Normal { openings }, ..) if openings != state.openings => None,
            (CallKind::Normal { .. }, Health::Failing, _) => {
                state.failures += 1;
                (state.failures >= config.failures).then(|| {
                    state.openings += 1;
                    state.open = Some(Open { since: now, until: now + first, wait: first, probing: false });
                    CircuitChange::Opened
                })
            }
            (CallKind::Normal { .. }, Health::Unclear, _) => None,
            (_, Health::Healthy, open) => {
                state.failures = 0;
                open.take().map(|_| CircuitChange::Closed)
            }
            (CallKind::Probe, Health::Failing, Some(open)) => {
                let wait = (open.wait * 2).min(Duration::from_millis(config.open_cap_ms)).max(first);
                *open = Open { since: open.since, until: now + wait, wait, probing: false };
                None
            }
            // The next call is the probe.
            (CallKind::Probe, Health::Unclear, Some(open)) => {
                open.probing = false;
                None
            }
            // A circuit closes only when its probe is reported, and a probe is reported once.
            (CallKind::Probe, Health::Failing | Health::Unclear, None) => None,
        }
    }

    /// How a company's jobs may be claimed, by the circuit that its last job went through.
    pub(super) fn claimable(&self, company: CompanyId, now: Instant) -> Claimable {
        let state = self.of_company.get(&company).and_then(|it| self.states.get(it));
        match state.and_then(|it| it.open) {
            None => Claimable::Freely,
            Some(open) if !open.probing && now >= open.until => Claimable::AsProbe,
            Some(open) => Claimable::OnlyHeldTooLong { open_for: now - open.since },
        }
    }

    /// How long a circuit has been open, if it is.
    pub(super) fn open_for(&self, circuit: &Circuit, now: Instant) -> Option<Duration> {
        Some(now - self.states.get(circuit)?.open?.since)
    }

    /// The circuit that a company's last job went through, if it is open.
    pub(super) fn open_of(&self, company: CompanyId) -> Option<&Circuit> {
        let circuit = self.of_company.get(&company)?;
        self.states.get(circuit)?.open.map(|_| circuit)
    }

    /// Companies whose jobs go through a circuit.
    pub(super) fn companies(&self, circuit: &Circuit) -> Vec<CompanyId> {
        self.states.get(circuit).map(|it| it.companies.iter().copied().collect()).unwrap_or_default()
    }

    /// Open circuits by provider.
    pub(super) fn open_by_provider(&self) -> HashMap<&'static str, usize> {
        let mut open = HashMap::new();
        for (circuit, state) in &self.states {
            *open.entry(circuit.provider).or_default() += usize::from(state.open.is_some());
        }
        open
    }

    /// Removes circuits that are closed and idle, when there are more than `max`.
    pub(super) fn forget_idle(&mut self, max: usize) {
        if self.states.len() > max {
            self.states.retain(|_, state| state.open.is_some() || state.in_flight > 0 || state.failures > 0);
            self.of_company.retain(|_, circuit| self.states.contains_key(circuit));
        }
    }
}

/// How a report changed its circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CircuitChange {
    Opened,
    Closed,
}

/// How a company's jobs may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimable {
    Freely,
    AsProbe,
    /// Those that have been held back for as long as they may be.
    OnlyHeldTooLong {
        open_for: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const COMPANY: CompanyId = CompanyId(7);
    const CALL: CallKind = CallKind::Normal { openings: 0 };
    const NORMAL: CircuitDecision = CircuitDecision::Call(CALL);
    const PROBE: CircuitDecision = CircuitDecision::Call(CallKind::Probe);

    fn circuit() -> Circuit {
        Circuit { provider: "whaticket", credential: "7".into() }
    }

    /// A circuit of two failures, open for ten seconds; opened now.
    fn opened(now: Instant) -> Circuits {
        let config = Config { failures: 2, open_ms: 10_000, open_cap_ms: 15_000 };
        let mut circuits = Circuits::new(config, 100);
        for expected in [None, Some(CircuitChange::Opened)] {
            assert_eq!(circuits.request(&circuit(), COMPANY, now), NORMAL);
            assert_eq!(circuits.report(&circuit(), CALL, Health::Failing, now), expected);
        }
        circuits
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_open_circuit_holds_jobs_back_and_then_lets_one_probe_pass() {
        let now = clock::instant();
        let mut circuits = opened(now);
        assert_eq!(circuits.request(&circuit(), COMPANY, now + seconds(4)), CircuitDecision::HeldBack(seconds(6)));
        assert_eq!(circuits.claimable(COMPANY, now + seconds(10)), Claimable::AsProbe);
        assert_eq!(circuits.request(&circuit(), COMPANY, now + seconds(10)), PROBE);
        assert_eq!(circuits.request(&circuit(), COMPANY, now + seconds(11)), CircuitDecision::HeldBack(seconds(10)));
        assert_eq!(
            circuits.report(&circuit(), CallKind::Probe, Health::Healthy, now + seconds(12)),
            Some(CircuitChange::Closed)
        );
        assert_eq!(circuits.claimable(COMPANY, now + seconds(12)), Claimable::Freely);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_the_cap() {
        let now = clock::instant();
        let mut circuits = opened(now);
        let first_probe = now + seconds(10);
        assert_eq!(circuits.request(&circuit(), COMPANY, first_probe), PROBE);
        assert_eq!(circuits.report(&circuit(), CallKind::Probe, Health::Failing, first_probe), None);
        assert_eq!(circuits.request(&circuit(), COMPANY, first_probe), CircuitDecision::HeldBack(seconds(15)));
        let claimable = circuits.claimable(COMPANY, first_probe);
        assert_eq!(claimable, Claimable::OnlyHeldTooLong { open_for: seconds(10) });
    }

    #[test]
    fn calls_made_before_it_opened_change_nothing_while_it_is_open_and_afterwards() {
        let now = clock::instant();
        let mut circuits = Circuits::new(Config { failures: 2, open_ms: 10_000, open_cap_ms: 15_000 }, 100);
        for _ in 0..5 {
            assert_eq!(circuits.request(&circuit(), COMPANY, now), NORMAL);
        }
        let normal = |circuits: &mut Circuits, health, at| circuits.report(&circuit(), CALL, health, at);
        assert_eq!(normal(&mut circuits, Health::Failing, now), None);
        assert_eq!(normal(&mut circuits, Health::Failing, now), Some(CircuitChange::Opened));
        assert_eq!(normal(&mut circuits, Health::Healthy, now + seconds(1)), None);
        assert_eq!(circuits.request(&circuit(), COMPANY, now + seconds(4)), CircuitDecision::HeldBack(seconds(6)));
        assert_eq!(circuits.request(&circuit(), COMPANY, now + seconds(10)), PROBE);
        for health in [Health::Failing, Health::Unclear] {
            assert_eq!(normal(&mut circuits, health, now + seconds(11)), None);
            assert_eq!(
                circuits.request(&circuit(), COMPANY, now + seconds(11)),
                CircuitDecision::HeldBack(seconds(10))
            );
        }
        let closed = circuits.report(&circuit(), CallKind::Probe, Health::Healthy, now + seconds(12));
        assert_eq!(closed, Some(CircuitChange::Closed));
        for _ in 0..5 {
            assert_eq!(normal(&mut circuits, Health::Failing, now + seconds(13)), None);
        }
        assert_eq!(circuits.claimable(COMPANY, now + seconds(13)), Claimable::Freely);
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let now = clock::instant();
        let mut circuits = Circuits::new(Config { failures: 2, ..Config::default() }, 100);
        for health in [Health::Failing, Health::Healthy, Health::Failing, Health::Unclear] {
            assert_eq!(circuits.request(&circuit(), COMPANY, now), NORMAL);
            assert_eq!(circuits.report(&circuit(), CALL, health, now), None);
        }
    }

    #[test]
    fn after_an_unclear_probe_the_next_call_is_the_probe() {
        let now = clock::instant();
        let mut circuits = opened(now);
        let later = now + seconds(10);
        assert_eq!(circuits.request(&circuit(), COMPANY, later), PROBE);
        assert_eq!(circuits.report(&circuit(), CallKind::Probe, Health::Unclear, later), None);
        assert_eq!(circuits.request(&circuit(), COMPANY, later), PROBE);
    }

    #[test]
    fn a_provider_gets_no_more_calls_at_once_than_it_may() {
        let now = clock::instant();
        let mut circuits = Circuits::new(Config::default(), 1);
        assert_eq!(circuits.request(&circuit(), COMPANY, now), NORMAL);
        assert_eq!(circuits.request(&circuit(), COMPANY, now), CircuitDecision::HeldBack(FULL_WAIT));
        circuits.report(&circuit(), CALL, Health::Healthy, now);
        assert_eq!(circuits.request(&circuit(), COMPANY, now), NORMAL);
    }
}
