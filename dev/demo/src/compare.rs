//! What was found against what is expected: everything that is off, by name. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::companies::Registered;
use crate::expectation::{self, Numbers};
use crate::player::Played;
use crate::results::{Found, PER_MODEL};
use crate::scenario::Scenario;

#[derive(Default)]
pub(crate) struct Compared {
    /// How many numbers and answers were compared.
    pub(crate) count: usize,
    pub(crate) off: Vec<String>,
}

/// Compares everything. `late` is what was still under way when the time was up.
pub(crate) fn all(
    companies: &[Registered],
    scenarios: &[Scenario],
    played: &[Played],
    found: &Found,
    late: Option<String>,
) -> Compared {
    let mut compared = Compared { count: 0, off: late.into_iter().collect() };
    for ((scenario, played), of_scenario) in scenarios.iter().zip(played).zip(&found.scenarios) {
        let mut expected = expectation::facts(scenario, &companies[scenario.at].company);
        expected.extend(played.expected.clone());
        compared.off.extend(played.late.iter().map(|it| format!("{}: {it}", scenario.file)));
        compared.all(&scenario.file, &expected, &of_scenario.facts);
    }
    for (at, (company, found)) in companies.iter().zip(&found.numbers).enumerate() {
        compared.numbers(&company.company.name, expectation::numbers(scenarios, at), found);
    }
    for (what, problems) in &found.problems {
        compared.count += 1;
        compared.off.extend(problems.iter().map(|it| format!("{what}: {it}")));
    }
    compared
}

impl Compared {
    /// What is expected, and nothing besides.
    fn all<T: PartialEq + Display>(
        &mut self,
        whose: &str,
        expected: &BTreeMap<String, T>,
        found: &BTreeMap<String, T>,
    ) {
        for name in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
            self.count += 1;
            let (expected, found) = (expected.get(name), found.get(name));
            if expected != found {
                let [expected, found] = [expected, found].map(|it| it.map_or("nothing".into(), T::to_string));
                self.off.push(format!("{whose}: {name}: expected {expected}, found {found}"));
            }
        }
    }

    /// A company's numbers. Of the tokens only the ledger can say how many they are; all other counts of them must agree.
    fn numbers(&mut self, company: &str, mut expected: Numbers, found: &Numbers) {
        let of = |name: &str| found.get(name).copied().unwrap_or_default();
        for field in ["tokens_in", "tokens_out", "tokens_cached"] {
            let tokens = of(&format!("ledger: {field}"));
            for counted in ["ledger", "usage", "usage of all models"] {
                expected.insert(format!("{counted}: {field}"), tokens);
            }
        }
        let (tokens_in, tokens_out) = (of("ledger: tokens_in"), of("ledger: tokens_out"));
        expected.insert("plan: ai_tokens".into(), tokens_in + tokens_out);
        // An answer of no tokens would be no answer.
        let calls = of("ledger: model_tokens");
        self.count += 1;
        if tokens_in.min(tokens_out) < calls {
            self.off.push(format!("{company}: {calls} calls have {tokens_in} tokens in and {tokens_out} out"));
        }
        let mut found = found.clone();
        found.retain(|name, count| *count != 0 && ![PER_MODEL, "now: "].iter().any(|it| name.starts_with(it)));
        expected.keys().for_each(|name| _ = found.entry(name.clone()).or_default());
        found.keys().for_each(|name| _ = expected.entry(name.clone()).or_default());
        self.all(company, &expected, &found);
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
        for counted in ["ledger", "usage", "usage of all models"] {
            found.extend([(format!("{counted}: tokens_in"), 500), (format!("{counted}: tokens_out"), 100)]);
        }
        found.insert("plan: ai_tokens".into(), 600);
        spoil(&mut found);
        let mut compared = Compared::default();
        compared.numbers(&script().companies[company].name, expected(company), &found);
        compared.off
    }

    #[test]
    fn the_data_says_these_numbers() {
        let names = ["reply: done", "reply: ignored", "hooks: refused", "delivery: read", "delivery: dead-lettered"];
        let numbers = |company| names.map(|it| expected(company)[it]);
        assert_eq!(numbers(0), [15, 6, 4, 13, 1]);
        assert_eq!(numbers(1), [7, 3, 3, 7, 0]);
        assert_eq!([0, 1].map(|it| expected(it)["ledger: model_tokens"]), [13, 6]);
        assert_eq!(expected(1)["reply: ignored as duplicate record"], 1);
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
        let duplicate = "reply: ignored as duplicate record";
        let doubled = off(1, |it| it.extend([("reply: read".into(), 11), (duplicate.into(), 2)]));
        let named = ["ignored as duplicate record: expected 1, found 2", "read: expected 10, found 11"];
        assert_eq!(doubled, named.map(|it| format!("Salão Bela: reply: {it}")));
    }

    #[test]
    fn a_number_that_nothing_in_the_data_explains_is_named() {
        let unexplained = off(1, |it| _ = it.insert("reply: ignored as stub".into(), 1));
        assert_eq!(unexplained, ["Salão Bela: reply: ignored as stub: expected 0, found 1"]);
    }
}
