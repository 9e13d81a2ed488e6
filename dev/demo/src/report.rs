//! The run as a person would see it: conversations, deliveries, usage, conservation, alerts; and whether all is well.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use secretaria::processors;
use serde::Deserialize;
use serde_json::Value;

use crate::companies::Registered;
use crate::compare::Compared;
use crate::expectation::Numbers;
use crate::results::Found;
use crate::scenario::{Scenario, parse, read};

/// Columns of a line of text at most.
const WIDTH: usize = 110;
const TABLES: &str = "dev/demo/report.toml";

/// A table of the companies' numbers, as `report.toml` describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    title: String,
    each: Option<String>,
    columns: Vec<[String; 2]>,
    note: Option<String>,
}

/// Prints what came of the scenarios.
pub(crate) fn print(companies: &[Registered], scenarios: &[Scenario], found: &Found) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tables {
        table: Vec<Table>,
    }
    let Tables { table: tables } = parse(TABLES, &read(TABLES)?)?;
    let of_scenarios = || scenarios.iter().zip(&found.scenarios);
    for (at, Registered { company, id, .. }) in companies.iter().enumerate() {
        println!("\n{}   company {id}, times in {}\n", company.name, company.time_zone);
        let ours = of_scenarios().filter(|(it, _)| it.at == at).flat_map(|(_, found)| &found.conversations);
        ours.for_each(|it| conversation(it, &company.time_zone));
    }
    let mut rows = vec![["company", "contact", "number", "attempts"].map(str::to_owned).to_vec()];
    for (scenario, found) in of_scenarios() {
        let (company, number) = (&companies[scenario.at].company.name, last_four(&scenario.ids.phone));
        let attempts = found.facts.iter().filter(|(name, _)| name.ends_with(": attempts"));
        rows.extend(
            attempts.map(|(_, it)| vec![company.clone(), scenario.contact.clone(), number.clone(), it.clone()]),
        );
    }
    print_rows("Deliveries", &rows);
    for Table { title, each, columns, note } in &tables {
        let headings = columns.iter().map(|[heading, _]| heading.clone());
        let mut rows = vec![std::iter::once("company".to_owned()).chain(headings).collect::<Vec<_>>()];
        for (company, numbers) in companies.iter().zip(&found.numbers) {
            for one in each.as_ref().map_or(vec![String::new()], |each| ones(each, numbers)) {
                let cells = columns.iter().map(|[_, it]| cell(&it.replace('*', &one), numbers));
                rows.push(std::iter::once(company.company.name.clone()).chain(cells).collect());
            }
        }
        print_rows(title, &rows);
        note.iter().for_each(|it| println!("\n  {it}"));
    }
    println!("\nWhat must not be there\n");
    for (what, problems) in &found.problems {
        println!("  {what}: {}", if problems.is_empty() { "none".into() } else { problems.join("; ") });
    }
    for (scenario, found) in of_scenarios() {
        for (id, body) in &found.alerts {
            let kind = body["type"].as_str().unwrap_or_default();
            println!("\nAlert to {}: {kind}\n\n  webhook-id: {id}", companies[scenario.at].company.name);
            let known = found.facts.iter().filter(|(name, _)| name.contains("alert"));
            known.for_each(|(name, it)| println!("  {name}: {it}"));
            let fields = body["data"].as_object().into_iter().flatten();
            fields.for_each(|(field, value)| println!("    {field:<18} {value}"));
        }
    }
    Ok(())
}

/// What the asterisk of a name can stand for; processors in the order in which events pass them.
fn ones(each: &str, numbers: &Numbers) -> Vec<String> {
    let (before, after) = each.split_once('*').unwrap_or((each, ""));
    let ones = numbers.keys().filter_map(|it| it.strip_prefix(before)?.strip_suffix(after));
    let mut ones: Vec<String> = ones.map(str::to_owned).collect();
    ones.sort_by_key(|one| processors::ALL.iter().position(|it| it.name.as_str() == one));
    ones
}

fn cell(name: &str, numbers: &Numbers) -> String {
    match name.strip_suffix('…') {
        Some(start) => {
            let some = numbers.iter().filter(|(_, count)| **count != 0);
            let some = some.filter_map(|(name, count)| Some(format!("{} {count}", name.strip_prefix(start)?)));
            some.collect::<Vec<_>>().join(", ")
        }
        None if !name.contains(':') => name.to_owned(),
        None => match numbers.get(name) {
            None if name.starts_with("now: ") => "no limit".into(),
            count => count.unwrap_or(&0).to_string(),
        },
    }
}

/// Prints rows, of which the first are headings: numbers to the right, words to the left.
fn print_rows(title: &str, rows: &[Vec<String>]) {
    println!("\n{title}\n");
    for row in rows {
        let cells = row.iter().enumerate().map(|(n, cell)| {
            let column = || rows.iter().filter_map(|it| it.get(n));
            let width = column().map(|it| it.chars().count()).max().unwrap_or_default();
            let is_number = column().any(|it| it.parse::<i64>().is_ok());
            if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Prints whether all is well.
pub(crate) fn verdict(compared: &Compared) {
    match compared.off.as_slice() {
        [] => println!("\nAll {} numbers and answers are as the scenarios say.", compared.count),
        off => println!("\n{} of {} numbers and answers are off:\n  {}", off.len(), compared.count, off.join("\n  ")),
    }
}

fn conversation(conversation: &Value, time_zone: &str) {
    let contact = &conversation["contact"];
    let address = contact["address"].as_str().unwrap_or_default();
    println!("  {}  {}", contact["name"].as_str().unwrap_or("no name"), last_four(address));
    let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
    for message in conversation["messages"].as_array().into_iter().flatten() {
        let at = message["at"].as_str().and_then(|it| it.parse::<Timestamp>().ok()).unwrap_or_default();
        let at = at.to_zoned(zone.clone());
        let arrow = if message["direction"] == "in" { "→" } else { "←" };
        let text = format!("{}{}", message["text"].as_str().unwrap_or_default(), note(message));
        println!("{}", wrapped(&format!("    {}  {arrow}  ", at.strftime("%H:%M:%S")), &text));
    }
    println!();
}

/// What a person should know about a message of ours.
fn note(message: &Value) -> String {
    let delivery = &message["delivery"];
    let fallback = (message["turn_outcome"] == "fallback").then(|| "the model was down: fallback text".to_owned());
    let delivered = match (delivery["outcome"].as_str(), delivery["attempts"].as_i64()) {
        (Some("sent"), Some(1)) => None,
        (Some("sent"), attempts) => Some(format!("sent at attempt {}", attempts.unwrap_or_default())),
        (Some("failed_permanent"), _) => Some("not delivered: dead letter".into()),
        (_, Some(_)) => Some("under way".into()),
        (_, None) => Some("not published yet".into()),
    };
    let notes: Vec<String> = fallback.into_iter().chain(delivered).collect();
    if message["direction"] == "in" || notes.is_empty() { String::new() } else { format!("   [{}]", notes.join("; ")) }
}

fn last_four(number: &str) -> String {
    let digits: Vec<char> = number.chars().collect();
    format!("…{}", digits[digits.len().saturating_sub(4)..].iter().collect::<String>())
}

/// `head` and `text`, wrapped between words; further lines are indented as far as the text begins.
fn wrapped(head: &str, text: &str) -> String {
    let (indent, mut out, mut column) = (head.chars().count(), head.to_owned(), head.chars().count());
    for (n, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if n > 0 && column + 1 + width > WIDTH {
            out += &format!("\n{:indent$}", "");
            column = indent;
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
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
