//! Scripted faults — which request fails, how, and how many times.
//!
//! Promise: the first rule that matches and has times left is used, once per request; a rule never fires more than
//! its `times`. Nothing here waits or does HTTP: `exchange.rs` carries the fault out.

mod rule;

pub use rule::{Fault, FaultRule, Match, RuleRefused};

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

pub(crate) use rule::RequestFields;

/// How many rules are kept at most; a script that adds more has an endless loop.
const MAX_RULES: usize = 10_000;

/// A rule and its remaining times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleStatus {
    /// Counts up from 1; never used twice, not even after a clear.
    pub id: u64,
    #[serde(flatten)]
    pub rule: FaultRule,
    /// How many more requests it will affect.
    pub remaining: u32,
    /// How many more matching requests it will let pass.
    pub skip_remaining: u32,
}

/// The rules in force, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Script>);

#[derive(Debug, Default)]
struct Script {
    given: u64,
    rules: Vec<RuleStatus>,
}

impl Faults {
    /// Adds a rule after the others and returns its id.
    pub(crate) fn add(&self, rule: FaultRule) -> Result<u64, RuleRefused> {
        rule::check(&rule.fault)?;
        let mut script = self.script();
        if script.rules.len() >= MAX_RULES {
            return Err(RuleRefused::Full(MAX_RULES));
        }
        script.given += 1;
        let id = script.given;
        let (remaining, skip_remaining) = (rule.times, rule.skip);
        script.rules.push(RuleStatus { id, rule, remaining, skip_remaining });
        Ok(id)
    }

    /// The fault for this request, if a rule matches; counts it as used.
    pub(crate) fn take(&self, request: RequestFields<'_>) -> Option<Fault> {
        let mut script = self.script();
        for status in script.rules.iter_mut().filter(|s| s.remaining > 0 && s.rule.matches(request)) {
            if status.skip_remaining > 0 {
                status.skip_remaining -= 1;
                continue;
            }
            status.remaining -= 1;
            return Some(status.rule.fault.clone());
        }
        None
    }

    /// Every rule, used up or not.
    pub(crate) fn list(&self) -> Vec<RuleStatus> {
        self.script().rules.clone()
    }

    pub(crate) fn clear(&self) {
        self.script().rules.clear();
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::request_log::Target;

    fn send<'a>(number: &'a str, text: &'a str) -> RequestFields<'a> {
        RequestFields { target: Target::Send, text: Some(text), number: Some(number), token: Some("t"), model: None }
    }

    #[test]
    fn a_rule_fires_its_times_after_its_skips_and_never_again() {
        let faults = Faults::default();
        faults.add(FaultRule::new(Target::Send, Fault::Drop).times(2).skip(1)).unwrap();
        let fired: Vec<bool> = (0..5).map(|_| faults.take(send("55", "oi")).is_some()).collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert_eq!(faults.list()[0].remaining, 0);
    }

    #[test]
    fn the_first_matching_rule_with_times_left_is_used() {
        let faults = Faults::default();
        faults.add(FaultRule::new(Target::Send, Fault::Garbage).number("1")).unwrap();
        faults.add(FaultRule::new(Target::Send, Fault::Drop).text("olá")).unwrap();
        faults.add(FaultRule::new(Target::Model, Fault::Truncated)).unwrap();
        assert_eq!(faults.take(send("1", "olá, Ana")), Some(Fault::Garbage));
        assert_eq!(faults.take(send("1", "olá, Ana")), Some(Fault::Drop));
        assert_eq!(faults.take(send("1", "olá, Ana")), None);
    }

    #[test]
    fn a_rule_about_a_number_ignores_a_request_without_one() {
        let faults = Faults::default();
        faults.add(FaultRule::new(Target::Model, Fault::Drop).number("1")).unwrap();
        let request = RequestFields { target: Target::Model, text: Some("1"), number: None, token: None, model: None };
        assert_eq!(faults.take(request), None);
    }

    #[test]
    fn a_rule_is_read_from_the_json_of_the_control_api() {
        let rule: FaultRule = serde_json::from_value(serde_json::json!({
            "target": "model", "match": {"text": "preço"}, "fault": {"kind": "gemini_429", "retry_delay_s": 1.5}
        }))
        .unwrap();
        let fault = Fault::Gemini429 { retry_delay_s: 1.5, per_day: false };
        assert_eq!(rule, FaultRule::new(Target::Model, fault).text("preço"));
    }

    #[test]
    fn a_status_that_is_not_final_is_refused() {
        let faults = Faults::default();
        let fault = |status| Fault::Status { status, body: Value::Null, headers: BTreeMap::new() };
        assert_eq!(faults.add(FaultRule::new(Target::Send, fault(100))), Err(RuleRefused::Status(100)));
        assert_eq!(faults.add(FaultRule::new(Target::Send, fault(1000))), Err(RuleRefused::Status(1000)));
    }
}
