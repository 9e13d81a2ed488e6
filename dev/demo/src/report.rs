//! The run as a person would see it: conversations, deliveries, usage, conservation, and where to look further.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::cast::{Cast, Who};
use crate::compare::{Compared, attempt};
use crate::found::{Found, OfCompany, Turn};
use crate::paragraph::hang;
use crate::people::{Conversation, Message};
use crate::play::Played;
use crate::script::Script;
use crate::stage::Stage;

/// Prints what came of the hooks.
pub(crate) fn print(cast: &Cast, script: &Script, played: &Played, found: &Found, people: &[Conversation]) {
    for who in Who::BOTH {
        println!("\n{}   company {}, times in {}\n", who.name(), cast.of(who).id, who.zone());
        for (at, _) in script.dialogues.iter().enumerate().filter(|(_, it)| it.who == who) {
            let turn = found.turns.iter().find(|it| it.dialogue == at);
            let shown = turn.and_then(|turn| people.iter().find(|it| it.id == turn.conversation));
            shown.into_iter().for_each(|it| conversation(it, who));
        }
    }
    deliveries(script, found);
    hooks(script, played);
    usage(found);
    plan(found);
    conservation(found);
}

/// Prints where to look further, and whether all is well.
pub(crate) fn close(stage: &Stage, cast: &Cast, compared: &Compared) {
    addresses(stage, cast);
    verdict(compared);
}

fn conversation(conversation: &Conversation, who: Who) {
    let contact = &conversation.contact;
    println!("  {}  {}", contact.name.as_deref().unwrap_or("somebody"), last_four(&contact.address));
    let zone = TimeZone::get(who.zone()).unwrap_or(TimeZone::UTC);
    for message in &conversation.messages {
        let at = message.at.to_zoned(zone.clone());
        let arrow = if message.direction == "in" { "→" } else { "←" };
        let text = format!("{}{}", message.text, note(message));
        println!("{}", hang(&format!("    {}  {arrow}  ", at.strftime("%H:%M:%S")), &text));
    }
    println!();
}

/// What a person should know about a message of ours.
fn note(message: &Message) -> String {
    let mut notes = Vec::new();
    if message.direction == "out" {
        if message.turn_outcome.as_deref() == Some("fallback") {
            notes.push("the model was down: fallback text".to_owned());
        }
        match message.delivery.as_ref().map(|it| (it.outcome.as_deref(), it.attempts)) {
            Some((Some("sent"), 1)) => {}
            Some((Some("sent"), attempts)) => notes.push(format!("sent at attempt {attempts}")),
            Some((Some("failed_permanent"), _)) => notes.push("not delivered: parked".to_owned()),
            Some((_, _)) => notes.push("under way".to_owned()),
            None => notes.push("not handed on yet".to_owned()),
        }
    }
    if notes.is_empty() { String::new() } else { format!("   [{}]", notes.join("; ")) }
}

fn deliveries(script: &Script, found: &Found) {
    println!("Deliveries\n\n  {:<18} {:<9} {:<6}  attempts", "company", "contact", "number");
    for (at, dialogue) in script.dialogues.iter().enumerate() {
        let number = last_four(&dialogue.contact.phone);
        let words = |it: &Turn| {
            let attempts = it.attempts.iter().map(|(result, class)| attempt(result, class.as_deref()));
            attempts.collect::<Vec<_>>().join(", ")
        };
        for turn in found.turns.iter().filter(|it| it.dialogue == at) {
            println!("  {:<18} {:<9} {number:<6}  {}", dialogue.who.name(), dialogue.contact.name, words(turn));
        }
    }
}

fn hooks(script: &Script, played: &Played) {
    println!("\nHooks\n\n  {:<18} {:>5} = {:>8} + {:>7}  refused because", "company", "sent", "accepted", "refused");
    for who in Who::BOTH {
        let sent = || played.hooks.iter().filter(move |it| it.who == who);
        let mut refused = BTreeMap::new();
        sent().filter_map(|it| it.reason.as_deref()).for_each(|it| *refused.entry(it).or_insert(0) += 1);
        let accepted = sent().filter(|it| it.status == 202).count();
        let all = script.expected(who).count();
        println!(
            "  {:<18} {all:>5} = {accepted:>8} + {:>7}  {}",
            who.name(),
            sent().count() - accepted,
            list(&refused)
        );
    }
}

fn usage(found: &Found) {
    println!("\nUsage of this run, from /api/usage\n");
    println!(
        "  {:<18} {:>8} {:>9}  {:<18} {:>12} {:>10} {:>11}",
        "company", "messages", "answers", "model", "calls billed", "tokens in", "tokens out"
    );
    for who in Who::BOTH {
        let OfCompany { counted, ledger, .. } = found.of(who);
        let totals = &counted.usage.totals;
        let calls = ledger.get("model_tokens").map_or(0, |(calls, ..)| *calls);
        for model in counted.usage.models() {
            println!(
                "  {:<18} {:>8} {:>9}  {:<18} {calls:>12} {:>10} {:>11}",
                who.name(),
                totals.messages_in,
                totals.messages_out,
                model.model,
                model.tokens_in,
                model.tokens_out
            );
        }
    }
}

fn plan(found: &Found) {
    println!("\nWhat the plan says now, from entitlements()\n");
    println!("  {:<18} {:<18} {:>13} {:>11} {:>11}", "company", "feature", "used this run", "remaining", "limit");
    let shown = |figure: Option<i64>| figure.map_or_else(|| "no limit".to_owned(), |it| it.to_string());
    for who in Who::BOTH {
        for it in &found.of(who).counted.plan {
            let (remaining, limit) = (shown(it.remaining), shown(it.limit));
            println!("  {:<18} {:<18} {:>13} {remaining:>11} {limit:>11}", who.name(), it.feature, it.used);
        }
    }
    match found.drift.as_slice() {
        [] => println!("\n  verify_usage(), verify_entitlements(): no row, so every counter is the sum of its ledger"),
        drift => drift.iter().for_each(|it| println!("\n  {it}")),
    }
}

fn conservation(found: &Found) {
    println!("\nConservation: read = done + ignored + parked, and nothing is in flight\n");
    println!(
        "  {:<18} {:<10} {:>5} = {:>4} + {:>7} + {:>6}  ignored because",
        "company", "processor", "read", "done", "ignored", "parked"
    );
    for who in Who::BOTH {
        let of = found.of(who);
        for processor in ["reply", "delivery", "metering"] {
            let (records, duplicates) = of.records(processor);
            let marked = |state| of.marked(processor, state, None);
            let because = reasons(of, processor, duplicates);
            let (done, ignored, parked) = (marked("done"), marked("ignored") + duplicates, marked("parked"));
            let sum = format!("{records:>5} = {done:>4} + {ignored:>7} + {parked:>6}  {}", list(&because));
            println!("  {:<18} {processor:<10} {}", who.name(), sum.trim_end());
        }
    }
    println!("\n  Metering reads a fact for each message, each answer and each billed call: the usage, summed.");
    match found.broken.as_slice() {
        [] => println!("\n  sql/checks/: no row, so nothing vanished and nothing was doubled"),
        broken => broken.iter().for_each(|it| println!("\n  sql/checks/: {it}")),
    }
}

fn reasons(of: &OfCompany, processor: &str, duplicates: i64) -> BTreeMap<String, i64> {
    let mut because: BTreeMap<String, i64> = BTreeMap::new();
    for ((whose, state, reason), events) in &of.marks {
        if whose == processor && state == "ignored" {
            because.insert(reason.clone(), *events);
        }
    }
    because.extend((duplicates > 0).then(|| ("duplicate".to_owned(), duplicates)));
    because
}

fn addresses(stage: &Stage, cast: &Cast) {
    let asked = format!("?company_id={}", cast.of(Who::Clinic).id);
    let (clinic, salon, binary) = (Who::Clinic.domain(), Who::Salon.domain(), stage.binary());
    println!("\nWhere to look\n");
    row("webhook", &format!("POST {}", stage.url("/webhook/whaticket")));
    row("health", &stage.url("/healthz"));
    row("metrics", &stage.url("/metrics"));
    row("usage", &stage.url(&format!("/api/usage{asked}")));
    row("conversations", &stage.url(&format!("/api/conversations{asked}")));
    row("providers", &format!("{}/_sandbox/log", stage.sandbox));
    println!("\nWhat to try, after `source {}`\n", stage.env);
    row("write", &format!("{binary} hook send --company {salon} --text 'Oi! Quanto custa o corte?'"));
    row("read along", &format!("{binary} follow --company {salon}"));
    row("the shelf", &format!("{binary} parked list"));
    row("the sums", &format!("{binary} conservation"));
    let token = format!("\"Authorization: Bearer $({binary} token --company {clinic})\"");
    row("ask the API", &format!("curl -H {token} '{}'", stage.url(&format!("/api/usage{asked}"))));
    row("the rows", "psql \"$SECRETARIA__POSTGRES__OPERATOR_URL\"");
}

fn row(what: &str, it: &str) {
    println!("  {what:<14} {it}");
}

fn verdict(compared: &Compared) {
    match compared.off.as_slice() {
        [] => println!("\nAll {} numbers and answers are as the script says.", compared.numbers),
        off => {
            println!("\n{} of {} numbers and answers are off:", off.len(), compared.numbers);
            off.iter().for_each(|it| println!("  {it}"));
        }
    }
}

fn list<K: std::fmt::Display>(counts: &BTreeMap<K, i64>) -> String {
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

fn last_four(number: &str) -> String {
    let digits: Vec<char> = number.chars().collect();
    format!("…{}", digits[digits.len().saturating_sub(4)..].iter().collect::<String>())
}
