//! The numbers that must come of the scenarios: sums over what the data says. Nothing is taken from a run. Pure.

use std::collections::BTreeMap;

use domain::ProcessorName;
use secretaria::processors;

use crate::scenario::{Expect, Outcome, Scenario};

/// The state of an event that became a dead letter, in the tables.
pub(crate) const DEAD_LETTERED: &str = "parked";

/// What is counted about a company, by name. Names are those of `sql/numbers.sql`, and of `results::numbers`.
pub(crate) type Numbers = BTreeMap<String, i64>;

/// How events end, or have not ended yet; a repeat of an event is counted beside it.
const COUNTED: [&str; 6] = ["read", "done", "ignored", DEAD_LETTERED, "in_flight", "duplicates"];

/// The processors, in the order in which events pass them.
pub(crate) fn processors() -> impl Iterator<Item = ProcessorName> {
    processors::ALL.iter().map(|it| it.name)
}

/// What the scenarios of the company at that place must add to its numbers.
pub(crate) fn numbers(scenarios: &[Scenario], company: usize) -> Numbers {
    let counts = processors().flat_map(|name| COUNTED.map(|count| format!("{name}: {count}")));
    let mut numbers: Numbers = counts.map(|name| (name, 0)).collect();
    let mut add = |name: &str, count: i64| *numbers.entry(name.to_owned()).or_default() += count;
    for scenario in scenarios.iter().filter(|it| it.at == company) {
        scenario.hooks().for_each(|it| of_hook(&it.expect, &mut add));
        for (_, answer) in scenario.turns() {
            add("delivery: read", 1);
            match &answer.dead_letter {
                None => add("delivery: done", 1),
                Some(cause) => {
                    add(&format!("delivery: {DEAD_LETTERED}"), 1);
                    add(&format!("dead letters: delivery {cause}"), 1);
                }
            }
            booked("message_out", &mut add);
            add("usage: messages_out", 1);
            add("plan: whatsapp_messages", 1);
            if answer.outcome == Outcome::Replied {
                // Of the calls that failed, no tokens are reported; the one that did not fail is booked.
                booked("model_tokens", &mut add);
            }
        }
        scenario.numbers.iter().for_each(|(name, count)| add(name, *count));
    }
    numbers
}

fn of_hook(expect: &Expect, add: &mut impl FnMut(&str, i64)) {
    if let Expect::Refused { reason, .. } = expect {
        return add(&format!("hooks: refused as {reason}"), 1);
    }
    add("hooks: accepted", 1);
    add("reply: read", 1);
    match expect {
        Expect::Answered => {
            add("reply: done", 1);
            booked("message_in", add);
            add("usage: messages_in", 1);
        }
        Expect::Repeated => add("reply: duplicates", 1),
        Expect::Ignored(reason) => {
            add("reply: ignored", 1);
            add(&format!("reply: ignored as {}", reason.as_str()), 1);
        }
        Expect::Refused { .. } => {}
    }
}

/// A fact of usage, which metering books.
fn booked(fact: &str, add: &mut impl FnMut(&str, i64)) {
    add("metering: read", 1);
    add("metering: done", 1);
    add(&format!("ledger: {fact}"), 1);
}
