//! What must come of the scenarios, derived from the data alone. Nothing is taken from a run. Pure.

use std::collections::BTreeMap;

use secretaria::processors;

use crate::scenario::{Company, Expect, Outcome, Scenario, Step};

/// What is counted about a company, by name: the names are those of `sql/numbers.sql` and of `results.rs`.
pub(crate) type Numbers = BTreeMap<String, i64>;

/// What is known about a scenario, by name.
pub(crate) type Facts = BTreeMap<String, String>;

/// Numbers of every processor that are expected to be zero where the data says nothing else.
const COUNTED: [&str; 5] = ["read", "done", "ignored", "dead-lettered", "in_flight"];

/// What the scenarios of the company at that place must add to its numbers.
pub(crate) fn numbers(scenarios: &[Scenario], company: usize) -> Numbers {
    let readers = processors::ALL.iter().filter(|it| !it.topics.is_empty());
    let counted = readers.flat_map(|it| COUNTED.map(|count| format!("{}: {count}", it.name)));
    let mut numbers: Numbers = counted.map(|name| (name, 0)).collect();
    let mut add = |name: &str, count| *numbers.entry(name.to_owned()).or_default() += count;
    for scenario in scenarios.iter().filter(|it| it.at == company) {
        for hook in scenario.hooks() {
            names_for_hook(&hook.expect).iter().for_each(|name| add(name, 1));
        }
        for (_, answer) in scenario.turns() {
            let names = ["delivery: read", "usage: messages_out", "plan: whatsapp_messages"].map(str::to_owned);
            names.iter().chain(&booked("message_out")).for_each(|name| add(name, 1));
            match &answer.dead_letter {
                None => add("delivery: done", 1),
                Some(cause) => {
                    add("delivery: dead-lettered", 1);
                    add(&format!("dead letters: delivery {cause}"), 1);
                }
            }
            if answer.outcome == Outcome::Replied {
                // Of the calls that failed, no tokens are reported; the one that did not fail is booked.
                booked("model_tokens").iter().for_each(|name| add(name, 1));
            }
        }
        scenario.numbers.iter().for_each(|(name, count)| add(name, *count));
        add("rollups: turns", scenario.turns().count() as i64);
    }
    add_archived(&mut numbers);
    numbers
}

/// Archive reads what every other processor reads, and how turns and deliveries ended. The rollups that are computed from
/// its files count each message once, however often it was read.
fn add_archived(numbers: &mut Numbers) {
    let of = |name: &str| numbers.get(name).copied().unwrap_or_default();
    let read: i64 = numbers.iter().filter(|(name, _)| name.ends_with(": read")).map(|(_, count)| count).sum();
    let records = read + of("rollups: turns") + of("delivery: read");
    let archived = [
        ("archive: read", records),
        ("archive: done", records),
        (
            "rollups: messages_received",
            of("reply: read") - of("reply: ignored as duplicate record") - of("reply: ignored as own_echo"),
        ),
        ("rollups: messages_in", of("ledger: message_in")),
        ("rollups: messages_out", of("ledger: message_out")),
        ("rollups: model_calls", of("ledger: model_tokens")),
        ("rollups: deliveries", of("delivery: read")),
    ];
    numbers.extend(archived.map(|(name, count)| (name.to_owned(), count)));
}

/// The numbers to which a hook adds one.
fn names_for_hook(expect: &Expect) -> Vec<String> {
    let mut names = match expect {
        Expect::Answered => vec!["reply: done".to_owned(), "usage: messages_in".into()],
        Expect::Repeated => vec!["reply: ignored".into(), "reply: ignored as duplicate record".into()],
        Expect::Ignored(reason) => vec!["reply: ignored".into(), format!("reply: ignored as {}", reason.as_str())],
        Expect::Refused { reason, .. } => vec!["hooks: refused".into(), format!("hooks: refused as {reason}")],
    };
    names.push("hooks: sent".into());
    if !matches!(expect, Expect::Refused { .. }) {
        names.extend(["hooks: accepted".into(), "reply: read".into()]);
    }
    if *expect == Expect::Answered {
        names.extend(booked("message_in"));
    }
    names
}

/// Something used is a line of the ledger, and a record that metering reads.
fn booked(fact: &str) -> [String; 3] {
    ["metering: read".into(), "metering: done".into(), format!("ledger: {fact}")]
}

/// What must be known about a scenario afterwards.
pub(crate) fn facts(scenario: &Scenario, company: &Company) -> Facts {
    let mut facts = Facts::new();
    let mut add = |name: String, value: String| _ = facts.insert(name, value);
    for (n, hook) in scenario.hooks().enumerate() {
        let response = match &hook.expect {
            Expect::Answered | Expect::Ignored(_) => "202 with an id of its own".to_owned(),
            Expect::Repeated => "202 with the id of the hook before".into(),
            Expect::Refused { status, reason } => format!("{status} {reason}"),
        };
        add(format!("hook {}, {}", n + 1, hook.what), response);
    }
    for step in &scenario.steps {
        if let Step::PassThreshold { feature, percent, attempts, .. } = step {
            add(format!("{feature}: alerts"), "1".into());
            add(format!("{feature}: attempts to deliver the alert"), attempts.join(", "));
            add(format!("{feature}: webhooks that the receiver verified and took"), "1".into());
            add(format!("{feature}: threshold_percent, in the webhook"), percent.to_string());
        }
    }
    let (mut written, mut attempts, mut sent, mut turns) = (0, 0, 0, 0);
    for (messages, answer) in scenario.turns() {
        (written, attempts, sent) = (written + messages, attempts + answer.attempts.len(), sent + answer.messages_sent);
        turns += 1;
        add(format!("turn {turns}: messages answered together"), messages.to_string());
        add(format!("turn {turns}: attempts"), answer.attempts.join(", "));
        let outcome = match answer.outcome {
            Outcome::Replied => "replied",
            Outcome::Fallback => {
                add(format!("turn {turns}: text"), company.fallback_text.clone());
                "fallback"
            }
        };
        add(format!("turn {turns}: outcome"), outcome.into());
    }
    add("turns".into(), turns.to_string());
    add("conversations".into(), usize::from(turns > 0).to_string());
    add("messages from them, in the API".into(), written.to_string());
    add("messages from us, in the API".into(), turns.to_string());
    add("requests the provider saw".into(), attempts.to_string());
    add("messages the provider sent".into(), sent.to_string());
    facts
}
