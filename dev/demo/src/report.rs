//! The run as a person would see it: conversations, deliveries, usage, conservation, alerts, and where to look further.

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::companies::Registered;
use crate::compare::Compared;
use crate::expectation::{DEAD_LETTERED, Numbers, processors};
use crate::player::Played;
use crate::results::{MODEL, Results, written_at};
use crate::run::Run;
use crate::scenario::Scenario;

/// Columns of a line of text at most.
const WIDTH: usize = 110;

/// Prints what came of the scenarios.
pub(crate) fn print(companies: &[Registered], scenarios: &[Scenario], played: &[Played], results: &Results) {
    for (at, company) in companies.iter().enumerate() {
        println!("\n{}   company {}, times in {}\n", company.name, company.id, company.time_zone);
        let ours = scenarios.iter().zip(&results.scenarios).filter(|(it, _)| it.at == at);
        ours.flat_map(|(_, found)| &found.conversations).for_each(|it| conversation(it, &company.time_zone));
    }
    deliveries(companies, scenarios, results);
    hooks(companies, scenarios, results);
    usage(companies, results);
    plans(companies, results);
    conservation(companies, results);
    alerts(companies, scenarios, played, results);
}

/// Prints where to look further, and whether all is well.
pub(crate) fn close(run: &Run, env: &str, company: Option<&Registered>, compared: &Compared) {
    let binary = std::env::current_exe().map(|it| it.with_file_name("secretaria")).unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let (id, domain) = company.map(|it| (it.id.to_string(), it.domain.clone())).unwrap_or_default();
    let binary = binary.strip_prefix(&here).unwrap_or(&binary).display().to_string();
    let names = [("{http}", run.url("")), ("{sandbox}", run.sandbox.clone()), ("{env}", env.to_owned()), ("{id}", id)];
    let names = names.into_iter().chain([("{binary}", binary), ("{company}", domain)]);
    let next = include_str!("../next_steps.txt").to_owned();
    println!("\n{}", names.fold(next, |text, (name, it)| text.replace(name, &it)));
    match compared.off.as_slice() {
        [] => println!("All {} numbers and answers are as the scenarios say.", compared.numbers),
        off => {
            println!("{} of {} numbers and answers are off:", off.len(), compared.numbers);
            off.iter().for_each(|it| println!("  {it}"));
        }
    }
}

fn conversation(conversation: &Value, time_zone: &str) {
    let contact = &conversation["contact"];
    let address = contact["address"].as_str().unwrap_or_default();
    println!("  {}  {}", contact["name"].as_str().unwrap_or("no name"), last_four(address));
    let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
    for message in conversation["messages"].as_array().into_iter().flatten() {
        let at = written_at(message).unwrap_or_default().to_zoned(zone.clone());
        let arrow = if message["direction"] == "in" { "→" } else { "←" };
        let text = format!("{}{}", message["text"].as_str().unwrap_or_default(), note(message));
        println!("{}", wrapped(&format!("    {}  {arrow}  ", at.strftime("%H:%M:%S")), &text));
    }
    println!();
}

/// What a person should know about a message of ours.
fn note(message: &Value) -> String {
    let mut notes = Vec::new();
    if message["direction"] == "out" {
        if message["turn_outcome"] == "fallback" {
            notes.push("the model was down: fallback text".to_owned());
        }
        let delivery = &message["delivery"];
        match (delivery["outcome"].as_str(), delivery["attempts"].as_i64()) {
            (Some("sent"), Some(1)) => {}
            (Some("sent"), attempts) => notes.push(format!("sent at attempt {}", attempts.unwrap_or_default())),
            (Some("failed_permanent"), _) => notes.push("not delivered: dead letter".to_owned()),
            (_, Some(_)) => notes.push("under way".to_owned()),
            (_, None) => notes.push("not handed on yet".to_owned()),
        }
    }
    if notes.is_empty() { String::new() } else { format!("   [{}]", notes.join("; ")) }
}

fn deliveries(companies: &[Registered], scenarios: &[Scenario], results: &Results) {
    let rows = scenarios.iter().zip(&results.scenarios).flat_map(|(scenario, found)| {
        let (company, number) = (&companies[scenario.at].name, last_four(&scenario.ids.phone));
        let row = move |attempts: &str| [company, &scenario.contact, &number, attempts].map(str::to_owned);
        found.turns.iter().map(move |it| row(&it.attempts))
    });
    table("Deliveries", ["company", "contact", "number", "attempts"], rows);
}

fn hooks(companies: &[Registered], scenarios: &[Scenario], results: &Results) {
    let rows = companies.iter().zip(&results.numbers).enumerate().map(|(at, (company, numbers))| {
        let sent = scenarios.iter().filter(|it| it.at == at).flat_map(Scenario::hooks).count();
        let reasons = beginning(numbers, "hooks: refused as ");
        let refused = reasons.iter().map(|(_, count)| count).sum::<i64>();
        let row = [sent.to_string(), "=".into(), of(numbers, "hooks: accepted"), "+".into(), refused.to_string()];
        let [sent, equals, accepted, plus, refused] = row;
        [company.name.clone(), sent, equals, accepted, plus, refused, listed(&reasons)]
    });
    table("Hooks", ["company", "sent", "=", "accepted", "+", "refused", "refused because"], rows);
}

fn usage(companies: &[Registered], results: &Results) {
    let rows = companies.iter().zip(&results.numbers).flat_map(|(company, numbers)| {
        let models = beginning(numbers, MODEL).into_iter().filter_map(|(it, _)| it.strip_suffix(": tokens_in"));
        models.map(|model| {
            let of = |name: &str| of(numbers, name);
            let tokens = |field: &str| of(&format!("{MODEL}{model}: {field}"));
            let (messages, answers) = (of("usage: messages_in"), of("usage: messages_out"));
            let calls = of("ledger: model_tokens");
            [company.name.clone(), messages, answers, model.into(), calls, tokens("tokens_in"), tokens("tokens_out")]
        })
    });
    let headings = ["company", "messages", "answers", "model", "calls billed", "tokens in", "tokens out"];
    table("Usage of this run, from /api/usage", headings, rows);
}

fn plans(companies: &[Registered], results: &Results) {
    let rows = companies.iter().zip(&results.numbers).zip(&results.plans).flat_map(|((company, numbers), plan)| {
        plan.iter().map(|[feature, remaining, limit]| {
            let used = of(numbers, &format!("plan: {feature}"));
            [company.name.clone(), feature.clone(), used, remaining.clone(), limit.clone()]
        })
    });
    let headings = ["company", "feature", "used this run", "remaining", "limit"];
    table("What the plan says now, from entitlements()", headings, rows);
    rows_of(
        &results.drift,
        "verify_usage(), verify_entitlements()",
        "no row, so every counter is the sum of its ledger",
    );
}

fn conservation(companies: &[Registered], results: &Results) {
    let rows = companies.iter().zip(&results.numbers).flat_map(|(company, numbers)| {
        processors().map(move |processor| {
            let count = |name: &str| of(numbers, &format!("{processor}: {name}"));
            let mut reasons = beginning(numbers, &format!("{processor}: ignored as "));
            reasons.extend(beginning(numbers, &format!("{processor}: duplicate")).iter().map(|it| ("duplicate", it.1)));
            let ignored = reasons.iter().map(|(_, count)| count).sum::<i64>().to_string();
            let [read, done, dead] = ["read", "done", DEAD_LETTERED].map(count);
            let [equals, plus, and] = ["=", "+", "+"].map(str::to_owned);
            let (company, processor) = (company.name.clone(), processor.to_string());
            [company, processor, read, equals, done, plus, ignored, and, dead, listed(&reasons)]
        })
    });
    let title = "Conservation: read = done + ignored + dead-lettered, and nothing is in flight";
    let headings =
        ["company", "processor", "read", "=", "done", "+", "ignored", "+", "dead-lettered", "ignored because"];
    table(title, headings, rows);
    println!("\n  Metering reads a fact for each message, each answer and each billed call: the usage, summed.");
    rows_of(&results.broken, "sql/checks/", "no row, so nothing vanished and nothing was doubled");
}

fn alerts(companies: &[Registered], scenarios: &[Scenario], played: &[Played], results: &Results) {
    for ((scenario, played), found) in scenarios.iter().zip(played).zip(&results.scenarios) {
        for (threshold, alerts) in played.thresholds.iter().zip(&found.alerts) {
            let company = &companies[scenario.at].name;
            println!("\nAlerts: {company} passed {} % of its {}", threshold.percent, threshold.feature);
            for alert in alerts {
                println!("\n  attempts    {}\n  webhook-id  {}", alert.attempts, alert.id);
                for body in &alert.taken {
                    println!("  {}", body["type"].as_str().unwrap_or_default());
                    let fields = body["data"].as_object().into_iter().flatten();
                    fields.for_each(|(field, value)| println!("    {field:<18} {value}"));
                }
            }
        }
    }
}

/// Prints rows under their headings: numbers to the right, words to the left.
fn table<const N: usize>(title: &str, headings: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<[String; N]> = rows.collect();
    println!("\n{title}\n");
    let columns: [_; N] = std::array::from_fn(|n| {
        let width = rows.iter().map(|it| it[n].chars().count()).max().unwrap_or_default();
        let is_number = rows.iter().any(|it| it[n].parse::<i64>().is_ok());
        (width.max(headings[n].chars().count()), is_number)
    });
    for row in std::iter::once(&headings.map(str::to_owned)).chain(&rows) {
        let cells =
            row.iter().zip(columns).map(
                |(cell, (width, is_number))| {
                    if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            );
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Prints what a query that must find nothing has found.
fn rows_of(found: &[String], query: &str, nothing: &str) {
    match found {
        [] => println!("\n  {query}: {nothing}"),
        found => found.iter().for_each(|it| println!("\n  {query}: {it}")),
    }
}

fn of(numbers: &Numbers, name: &str) -> String {
    numbers.get(name).copied().unwrap_or_default().to_string()
}

/// The numbers that are not zero and whose names begin so, without that beginning.
fn beginning<'a>(numbers: &'a Numbers, start: &str) -> Vec<(&'a str, i64)> {
    let numbers = numbers.iter().filter(|(_, count)| **count != 0);
    numbers.filter_map(|(name, count)| Some((name.strip_prefix(start)?, *count))).collect()
}

fn listed(counts: &[(&str, i64)]) -> String {
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

fn last_four(number: &str) -> String {
    let digits: Vec<char> = number.chars().collect();
    format!("…{}", digits[digits.len().saturating_sub(4)..].iter().collect::<String>())
}

/// `head` and `text`, wrapped between words; further lines are indented as far as the text begins.
fn wrapped(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let (mut out, mut column) = (head.to_owned(), indent);
    for (n, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if n > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_goes_on_under_its_beginning() {
        let long = "palavra ".repeat(20);
        let lines: Vec<String> = wrapped("  10:00  →  ", &long).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  10:00  →  palavra palavra"));
        assert!(lines[1].starts_with("            palavra"));
        assert!(lines.iter().all(|it| it.chars().count() <= WIDTH));
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let word = "a".repeat(200);
        assert_eq!(wrapped("> ", &word), format!("> {word}"));
    }
}
