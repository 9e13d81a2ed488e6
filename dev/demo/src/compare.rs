//! What was found against what the script says: every number that is off, by name. Pure.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::cast::Who;
use crate::found::{Found, OfCompany};
use crate::hook::Expect;
use crate::people::Conversation;
use crate::play::Played;
use crate::sandbox::Seen;
use crate::script::{Answer, Dialogue, Script};

/// The result.
#[derive(Default)]
pub(crate) struct Compared {
    /// How many numbers and answers were compared.
    pub(crate) numbers: usize,
    pub(crate) off: Vec<String>,
}

impl Compared {
    pub(crate) fn is_right(&self) -> bool {
        self.off.is_empty()
    }

    pub(crate) fn same<T: PartialEq + Display>(&mut self, what: impl Display, expected: T, found: T) {
        self.numbers += 1;
        if expected != found {
            self.off.push(format!("{what}: expected {expected}, found {found}"));
        }
    }
}

/// What must come of a company's hooks, as numbers.
pub(crate) struct Expected {
    pub(crate) answered: i64,
    pub(crate) repeated: i64,
    pub(crate) ignored: BTreeMap<&'static str, i64>,
    pub(crate) refused: BTreeMap<&'static str, i64>,
    pub(crate) turns: i64,
    pub(crate) parked: i64,
    /// Model calls that report tokens.
    pub(crate) calls: i64,
}

impl Expected {
    pub(crate) fn of(script: &Script, who: Who) -> Self {
        let (mut answered, mut repeated, mut ignored, mut refused) = (0, 0, BTreeMap::new(), BTreeMap::new());
        for expect in script.expected(who) {
            match expect {
                Expect::Answered => answered += 1,
                Expect::Repeated => repeated += 1,
                Expect::Ignored(reason) => *ignored.entry(reason.as_str()).or_insert(0) += 1,
                Expect::Refused(_, reason) => *refused.entry(reason).or_insert(0) += 1,
            }
        }
        let (mut turns, mut parked, mut calls) = (0, 0, 0);
        for turn in script.turns(who) {
            turns += 1;
            parked += i64::from(turn.delivery.is_parked());
            calls += i64::from(turn.answer == Answer::Model);
        }
        Expected { answered, repeated, ignored, refused, turns, parked, calls }
    }

    pub(crate) fn accepted(&self) -> i64 {
        self.answered + self.repeated + self.ignored.values().sum::<i64>()
    }

    /// Messages in, messages out, model calls: a fact each.
    fn facts(&self) -> i64 {
        self.answered + self.turns + self.calls
    }
}

/// Compares everything. `late` is what was still under way when the time was up.
pub(crate) fn all(
    script: &Script,
    played: &Played,
    found: &Found,
    provider: &Seen,
    people: &[Conversation],
    late: Option<String>,
) -> Compared {
    let mut compared = Compared { numbers: played.hooks.len(), off: played.problems.clone() };
    compared.off.extend(late);
    for who in Who::BOTH {
        let expected = Expected::of(script, who);
        hooks(&mut compared, who, &expected, played);
        river(&mut compared, who, &expected, found.of(who));
        usage(&mut compared, who, &expected, found.of(who));
    }
    for (at, dialogue) in script.dialogues.iter().enumerate() {
        turns(&mut compared, at, dialogue, found);
        conversation(&mut compared, at, dialogue, found, people);
        let name = name(dialogue);
        let attempts = dialogue.turns.iter().map(|it| it.delivery.attempts().len()).sum();
        let performed = dialogue.turns.iter().map(|it| it.delivery.performed()).sum();
        let seen = &provider.dialogues[at];
        compared.same(format!("{name}: requests the provider saw"), attempts, seen.requests);
        compared.same(format!("{name}: messages the provider sent"), performed, seen.performed);
    }
    compared.same("scripted faults that never struck", none(), words(&provider.unused));
    compared.same("laws of conservation that are broken", none(), words(&found.broken));
    compared.same("counters and decisions that differ from what they are made of", none(), words(&found.drift));
    compared
}

fn hooks(compared: &mut Compared, who: Who, expected: &Expected, played: &Played) {
    let of = || played.hooks.iter().filter(move |it| it.who == who);
    let accepted = of().filter(|it| it.status == 202).count() as i64;
    compared.same(format!("{}: hooks accepted", who.name()), expected.accepted(), accepted);
    for (reason, count) in &expected.refused {
        let found = of().filter(|it| it.reason.as_deref() == Some(reason)).count() as i64;
        compared.same(format!("{}: hooks refused as {reason}", who.name()), *count, found);
    }
}

/// Read = done + ignored + parked, per processor.
fn river(compared: &mut Compared, who: Who, expected: &Expected, found: &OfCompany) {
    let ignored: i64 = expected.ignored.values().sum();
    let rows = [
        ("reply", expected.accepted(), expected.answered, ignored, 0, expected.repeated),
        ("delivery", expected.turns, expected.turns - expected.parked, 0, expected.parked, 0),
        ("metering", expected.facts(), expected.facts(), 0, 0, 0),
    ];
    for (processor, read, done, ignored, parked, repeats) in rows {
        let what = |word: &str| format!("{}: {processor}: {word}", who.name());
        let (records, duplicates) = found.records(processor);
        compared.same(what("read"), read, records);
        compared.same(what("done"), done, found.marked(processor, "done", None));
        compared.same(what("ignored"), ignored, found.marked(processor, "ignored", None));
        compared.same(what("parked"), parked, found.marked(processor, "parked", None));
        compared.same(what("in flight"), 0, found.marked(processor, "in_flight", None));
        compared.same(what("ignored as duplicates"), repeats, duplicates);
    }
    for (reason, count) in &expected.ignored {
        let found = found.marked("reply", "ignored", Some(reason));
        compared.same(format!("{}: ignored as {reason}", who.name()), *count, found);
    }
    let shelf = vec!["not_on_whatsapp"; usize::try_from(expected.parked).unwrap_or_default()];
    compared.same(format!("{}: causes on the dead-letter shelf", who.name()), words(&shelf), words(&found.shelf));
}

/// What the API says a company used, against the script and against the ledger of this run's facts.
fn usage(compared: &mut Compared, who: Who, expected: &Expected, found: &OfCompany) {
    let what = |word: &str| format!("{}: usage: {word}", who.name());
    let totals = &found.counted.usage.totals;
    let line = |fact: &str| found.ledger.get(fact).copied().unwrap_or_default();
    let (calls, tokens_in, tokens_out) = line("model_tokens");
    compared.same(what("messages in"), expected.answered, totals.messages_in);
    compared.same(what("messages in, in the ledger"), expected.answered, line("message_in").0);
    compared.same(what("messages out"), expected.turns, totals.messages_out);
    compared.same(what("messages out, in the ledger"), expected.turns, line("message_out").0);
    compared.same(what("model calls in the ledger"), expected.calls, calls);
    compared.same(what("tokens in, as the ledger has them"), tokens_in, totals.tokens_in);
    compared.same(what("tokens out, as the ledger has them"), tokens_out, totals.tokens_out);
    let by_model = |of: fn(&crate::found::Model) -> i64| found.counted.usage.models().iter().map(of).sum::<i64>();
    compared.same(what("tokens in, by model"), tokens_in, by_model(|it| it.tokens_in));
    compared.same(what("tokens out, by model"), tokens_out, by_model(|it| it.tokens_out));
    let used = |feature: &str| found.counted.plan.iter().find(|it| it.feature == feature).map_or(0, |it| it.used);
    compared.same(what("messages that the plan has counted"), totals.messages_out, used("whatsapp_messages"));
    compared.same(what("tokens that the plan has counted"), tokens_in + tokens_out, used("ai_tokens"));
    // An answer of no tokens would be no answer.
    compared.same(
        what("calls without tokens"),
        "none",
        if tokens_in >= calls && tokens_out >= calls { "none" } else { "some" },
    );
}

fn turns(compared: &mut Compared, at: usize, dialogue: &Dialogue, found: &Found) {
    let name = name(dialogue);
    let turns: Vec<_> = found.turns.iter().filter(|it| it.dialogue == at).collect();
    compared.same(format!("{name}: turns"), dialogue.turns.len(), turns.len());
    for (n, (wanted, turn)) in dialogue.turns.iter().zip(&turns).enumerate() {
        let what = |word: &str| format!("{name}: turn {}: {word}", n + 1);
        let answered = wanted.hooks.iter().filter(|it| it.expect == Expect::Answered).count();
        let (outcome, text) = match wanted.answer {
            Answer::Model => ("replied", None),
            Answer::Fallback { .. } => ("fallback", Some(dialogue.who.fallback())),
        };
        compared.same(what("messages answered together"), answered, turn.messages.len());
        compared.same(what("outcome"), outcome, turn.outcome.as_deref().unwrap_or("open"));
        if let Some(text) = text {
            compared.same(what("text"), text, turn.text.as_deref().unwrap_or_default());
        }
        let attempts = turn.attempts.iter().map(|(result, class)| attempt(result, class.as_deref()));
        let expected = wanted.delivery.attempts().iter().map(|(result, class)| attempt(result, *class));
        let (expected, attempts) = (expected.collect::<Vec<_>>(), attempts.collect::<Vec<_>>());
        compared.same(what("attempts"), words(&expected), words(&attempts));
    }
}

fn conversation(compared: &mut Compared, at: usize, dialogue: &Dialogue, found: &Found, people: &[Conversation]) {
    let name = name(dialogue);
    let mut ids: Vec<_> = found.turns.iter().filter(|it| it.dialogue == at).map(|it| it.conversation).collect();
    ids.sort();
    ids.dedup();
    compared.same(format!("{name}: conversations"), 1, ids.len());
    let shown: Vec<_> = people.iter().filter(|it| ids.contains(&it.id)).collect();
    let count = |direction| shown.iter().map(|it| it.count(direction)).sum::<usize>();
    let written = dialogue.hooks().filter(|it| it.expect == Expect::Answered).count();
    compared.same(format!("{name}: messages from them, in the API"), written, count("in"));
    compared.same(format!("{name}: messages from us, in the API"), dialogue.turns.len(), count("out"));
}

fn none() -> String {
    words::<&str>(&[])
}

fn words<T: AsRef<str>>(all: &[T]) -> String {
    let all: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

/// An attempt in words.
pub(crate) fn attempt(result: &str, class: Option<&str>) -> String {
    class.map_or_else(|| result.to_owned(), |class| format!("{result} ({class})"))
}

fn name(dialogue: &Dialogue) -> String {
    format!("{}, {}", dialogue.who.name(), dialogue.contact.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::found::Counted;
    use crate::script;
    use crate::stage::Run;

    fn script() -> Script {
        script::write(&Run { began: "2026-03-01T12:00:00Z".parse().unwrap() }).unwrap()
    }

    fn all_well(expected: &Expected) -> OfCompany {
        let ignored: i64 = expected.ignored.values().sum();
        let marks = [
            ("reply", "done", "", expected.answered),
            ("delivery", "done", "", expected.turns - expected.parked),
            ("delivery", "parked", "", expected.parked),
            ("metering", "done", "", expected.facts()),
        ];
        let reasons = expected.ignored.iter().map(|(reason, count)| ("reply", "ignored", *reason, *count));
        let text = str::to_owned;
        assert_eq!(expected.accepted(), expected.answered + expected.repeated + ignored);
        OfCompany {
            counted: Counted {
                records: BTreeMap::from([
                    (text("reply"), (expected.accepted(), expected.repeated)),
                    (text("delivery"), (expected.turns, 0)),
                    (text("metering"), (expected.facts(), 0)),
                ]),
                ..Counted::default()
            },
            marks: marks.into_iter().chain(reasons).map(|(p, s, r, n)| ((text(p), text(s), text(r)), n)).collect(),
            shelf: vec![text("not_on_whatsapp"); usize::try_from(expected.parked).unwrap()],
            ledger: BTreeMap::new(),
        }
    }

    fn off(who: Who, spoil: impl FnOnce(&mut OfCompany)) -> Vec<String> {
        let expected = Expected::of(&script(), who);
        let mut found = all_well(&expected);
        spoil(&mut found);
        let mut compared = Compared::default();
        river(&mut compared, who, &expected, &found);
        compared.off
    }

    #[test]
    fn the_script_says_these_numbers() {
        let script = script();
        let numbers = |who| {
            let Expected { answered, repeated, ignored, refused, turns, parked, calls } = Expected::of(&script, who);
            let sum = |it: BTreeMap<&str, i64>| it.values().sum();
            [answered, repeated, sum(ignored), sum(refused), turns, parked, calls]
        };
        assert_eq!(numbers(Who::Clinic), [15, 0, 6, 4, 13, 1, 13]);
        assert_eq!(numbers(Who::Salon), [7, 1, 2, 3, 7, 0, 6]);
        assert_eq!(script.hooks(), 38);
    }

    #[test]
    fn nothing_is_off_when_all_is_well() {
        assert!(off(Who::Clinic, |_| {}).is_empty());
        assert!(off(Who::Salon, |_| {}).is_empty());
    }

    #[test]
    fn an_event_that_vanished_is_named() {
        let lost = off(Who::Clinic, |it| {
            it.marks.insert(("delivery".into(), "done".into(), String::new()), 11);
        });
        assert_eq!(lost, ["Clínica Sorriso: delivery: done: expected 12, found 11"]);
    }

    #[test]
    fn a_repeat_that_nobody_sent_is_named() {
        let doubled = off(Who::Salon, |it| {
            it.counted.records.insert("reply".into(), (11, 2));
        });
        assert_eq!(
            doubled,
            [
                "Salão Bela: reply: read: expected 10, found 11",
                "Salão Bela: reply: ignored as duplicates: expected 1, found 2"
            ]
        );
    }
}
