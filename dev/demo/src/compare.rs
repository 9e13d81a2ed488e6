//! What was found against what the data says: every number that is off, by name. Pure.

use std::fmt::Display;

use serde_json::Value;

use crate::companies::Registered;
use crate::expectation::{self, Numbers};
use crate::player::{Played, Threshold};
use crate::results::{Alert, MODEL, OfScenario, Results};
use crate::scenario::{Outcome, Scenario};

/// The result.
#[derive(Default)]
pub(crate) struct Compared {
    /// How many numbers and answers were compared.
    pub(crate) numbers: usize,
    pub(crate) off: Vec<String>,
}

impl Compared {
    fn same<T: PartialEq + Display>(&mut self, what: impl Display, expected: T, found: T) {
        self.numbers += 1;
        if expected != found {
            self.off.push(format!("{what}: expected {expected}, found {found}"));
        }
    }

    fn none(&mut self, what: &str, found: &[String]) {
        self.same(what, "none".to_owned(), if found.is_empty() { "none".into() } else { found.join(", ") });
    }
}

/// Compares everything. `late` is what was still under way when the time was up.
pub(crate) fn all(
    companies: &[Registered],
    scenarios: &[Scenario],
    played: &[Played],
    results: &Results,
    late: Option<String>,
) -> Compared {
    let mut compared = Compared::default();
    for played in played {
        compared.numbers += played.hooks.len();
        compared.off.extend(played.hooks.iter().filter_map(|it| it.problem.clone()));
        compared.off.extend(played.late.clone());
    }
    compared.off.extend(late);
    for (at, (company, found)) in companies.iter().zip(&results.numbers).enumerate() {
        numbers(&mut compared, &company.name, expectation::numbers(scenarios, at), found);
    }
    for ((scenario, played), found) in scenarios.iter().zip(played).zip(&results.scenarios) {
        let company = &companies[scenario.at];
        if scenario.turns().next().is_some() {
            conversation(&mut compared, company, scenario, found);
        }
        for (threshold, alerts) in played.thresholds.iter().zip(&found.alerts) {
            alert(&mut compared, &company.name, threshold, alerts);
        }
    }
    compared.none("faults that were never used", &results.unused_faults);
    compared.none("laws of conservation that are broken", &results.broken);
    compared.none("counters and decisions that differ from what they are made of", &results.drift);
    compared
}

/// A company's numbers: those expected, and none besides. Of the tokens only the ledger can say how many they are; every
/// other count of them must be its sum.
fn numbers(compared: &mut Compared, company: &str, mut expected: Numbers, found: &Numbers) {
    let of = |name: &str| found.get(name).copied().unwrap_or_default();
    for field in ["tokens_in", "tokens_out", "tokens_cached"] {
        let tokens = of(&format!("ledger: {field}"));
        ["ledger", "usage", "usage of all models"].map(|it| expected.insert(format!("{it}: {field}"), tokens));
    }
    let (tokens_in, tokens_out, calls) =
        (of("ledger: tokens_in"), of("ledger: tokens_out"), of("ledger: model_tokens"));
    expected.insert("plan: ai_tokens".into(), tokens_in + tokens_out);
    // An answer of no tokens would be no answer.
    let without = if tokens_in >= calls && tokens_out >= calls { "none" } else { "some" };
    compared.same(format!("{company}: calls without tokens"), "none", without);
    let unexpected = found.iter().filter(|(name, count)| **count != 0 && !name.starts_with(MODEL));
    unexpected.for_each(|(name, _)| _ = expected.entry(name.clone()).or_default());
    for (name, count) in &expected {
        compared.same(format!("{company}: {name}"), *count, of(name));
    }
}

fn conversation(compared: &mut Compared, company: &Registered, scenario: &Scenario, found: &OfScenario) {
    let name = format!("{}, {}", company.name, scenario.contact);
    let turns = scenario.turns().count();
    compared.same(format!("{name}: turns"), turns, found.turns.len());
    for (n, ((messages, answer), turn)) in scenario.turns().zip(&found.turns).enumerate() {
        let what = |word: &str| format!("{name}: turn {}: {word}", n + 1);
        let outcome = match answer.outcome {
            Outcome::Replied => "replied",
            Outcome::Fallback => "fallback",
        };
        compared.same(what("messages answered together"), messages as i64, turn.messages);
        compared.same(what("outcome"), outcome, &turn.outcome);
        if answer.outcome == Outcome::Fallback {
            compared.same(what("text"), &company.fallback_text, &turn.text);
        }
        compared.same(what("attempts"), answer.attempts.join(", "), turn.attempts.clone());
    }
    let mut ids: Vec<_> = found.turns.iter().map(|it| it.conversation).collect();
    ids.sort();
    ids.dedup();
    compared.same(format!("{name}: conversations"), 1, ids.len());
    let messages = || found.conversations.iter().filter_map(|it| it["messages"].as_array()).flatten();
    let count = |direction: &str| messages().filter(|it| it["direction"] == direction).count();
    let written = scenario.turns().map(|(messages, _)| messages).sum();
    compared.same(format!("{name}: messages from them, in the API"), written, count("in"));
    compared.same(format!("{name}: messages from us, in the API"), turns, count("out"));
    let attempts = scenario.turns().map(|(_, answer)| answer.attempts.len()).sum();
    let sent = scenario.turns().map(|(_, answer)| answer.messages_sent).sum();
    compared.same(format!("{name}: requests the provider saw"), attempts, found.requests);
    compared.same(format!("{name}: messages the provider sent"), sent, found.messages_sent);
}

/// One alert, so many attempts, one webhook taken, and the numbers in it.
fn alert(compared: &mut Compared, company: &str, expected: &Threshold, alerts: &[Alert]) {
    let what = |word: &str| format!("{company}: {}: {word}", expected.feature);
    compared.same(what("alerts"), 1, alerts.len());
    let attempts: Vec<&str> = alerts.iter().map(|it| it.attempts.as_str()).collect();
    compared.same(what("attempts to deliver the alert"), expected.attempts.join(", "), attempts.join("; "));
    let taken: Vec<&Value> = alerts.iter().flat_map(|it| &it.taken).collect();
    compared.same(what("webhooks the receiver verified and took"), 1, taken.len());
    let fields = [("threshold_percent", expected.percent), ("used", expected.used), ("limit", expected.limit)];
    for (field, expected) in fields {
        let found = taken.first().and_then(|it| it["data"][field].as_i64());
        compared.same(what(&format!("{field}, in the webhook")), expected, found.unwrap_or(-1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{self, Script};

    fn script() -> Script {
        scenario::load("2026-03-01T12:00:00Z".parse().unwrap()).unwrap()
    }

    fn expected(company: usize) -> Numbers {
        expectation::numbers(&script().scenarios, company)
    }

    /// What is off when all is well but for that.
    fn off(company: usize, spoil: impl FnOnce(&mut Numbers)) -> Vec<String> {
        let mut found = expected(company);
        for field in ["ledger", "usage", "usage of all models"].map(|it| [it, ": tokens_"].concat()) {
            found.extend([(format!("{field}in"), 500), (format!("{field}out"), 100)]);
        }
        found.insert("plan: ai_tokens".into(), 600);
        spoil(&mut found);
        let mut compared = Compared::default();
        numbers(&mut compared, &script().companies[company].name, expected(company), &found);
        compared.off
    }

    #[test]
    fn the_data_says_these_numbers() {
        let parts = [
            "reply: done",
            "reply: duplicates",
            "reply: ignored as",
            "hooks: refused",
            "delivery: read",
            "dead letters",
            "ledger: model_tokens",
        ];
        let numbers = |company| {
            let numbers = expected(company);
            parts.map(|part| numbers.iter().filter(|(it, _)| it.starts_with(part)).map(|(_, count)| count).sum::<i64>())
        };
        assert_eq!(numbers(0), [15, 0, 6, 4, 13, 1, 13]);
        assert_eq!(numbers(1), [7, 1, 2, 3, 7, 0, 6]);
        assert_eq!(script().scenarios.iter().flat_map(Scenario::hooks).count(), 38);
    }

    #[test]
    fn nothing_is_off_when_all_is_well() {
        assert!(off(0, |_| {}).is_empty());
        assert!(off(1, |_| {}).is_empty());
    }

    #[test]
    fn an_event_that_vanished_is_named() {
        let lost = off(0, |it| _ = it.insert("delivery: done".into(), 11));
        assert_eq!(lost, ["Clínica Sorriso: delivery: done: expected 12, found 11"]);
    }

    #[test]
    fn a_repeat_that_was_not_sent_is_named() {
        let doubled = off(1, |it| it.extend([("reply: read".into(), 11), ("reply: duplicates".into(), 2)]));
        let named = ["duplicates: expected 1, found 2", "read: expected 10, found 11"];
        assert_eq!(doubled, named.map(|it| format!("Salão Bela: reply: {it}")));
    }

    #[test]
    fn a_number_that_nothing_in_the_data_explains_is_named() {
        let unexplained = off(1, |it| _ = it.insert("reply: ignored as stub".into(), 1));
        assert_eq!(unexplained, ["Salão Bela: reply: ignored as stub: expected 0, found 1"]);
    }
}
