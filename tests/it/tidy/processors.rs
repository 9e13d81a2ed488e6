//! One list of processors: the rest of the program takes names, topics, settings and jobs from it, and names none.
//!
//! What ships names a processor, by path or by string, only in its folder and in the list. So a further one changes
//! neither commands nor the ingest, nor the others.

use super::{File, nothing_in, rust};

const LIST: &str = "src/processors.rs";

/// Crates that ship. Tests and the demonstration may name what they look at.
const SHIPPED: &[&str] = &[
    "src/",
    "domain/src/",
    "platform/src/",
    "ingest/src/",
    "processors/src/",
    "analytics/src/",
    "api/src/",
    "sandbox/src/",
];

/// Where one of these words is another thing, and where one processor has to be named.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("domain/src/topic.rs", "alerts", "the topic of that name"),
    ("domain/src/outbound.rs", "reply", "the purpose of a message"),
    ("domain/src/identity.rs", "reply", "what ids of messages are derived from"),
    ("analytics/src/lib.rs", "rollups", "the module, whose items other crates use through the crate's root"),
    ("analytics/src/rollups/verify.rs", "archive", "its first offsets say from where on the lake is whole"),
    ("sandbox/src/structured.rs", "reply", "a field of a model's answer"),
];

#[test]
fn nothing_that_ships_names_a_processor_but_its_folder_and_the_list() {
    let mut findings = Vec::new();
    for name in names() {
        for file in shipped().filter(|it| !is_home(it, name)) {
            let is_excepted = OTHERWISE.iter().any(|(path, word, _)| *path == file.path && *word == name);
            let lines: Vec<_> = file.lines().zip(code_of(file)).filter(|(_, code)| is_named(code, name)).collect();
            if is_excepted && lines.is_empty() {
                findings.push(format!("{} no longer names {name}: remove its exception", file.path));
            }
            let named = lines.iter().filter(|_| !is_excepted);
            findings.extend(named.map(|((number, line), _)| format!("{}:{number} {name}: {}", file.path, line.trim())));
        }
    }
    nothing_in(findings);
}

#[test]
fn the_reader_of_names_sees_them() {
    for (code, name) in [
        ("use processors::reply::decide;", "reply"),
        ("reply::run(context)", "reply"),
        ("use processors::{delivery, reply};", "delivery"),
        ("settings.reply.quiet_ms", "reply"),
        (r#"named("alerts")"#, "alerts"),
        ("where processor = 'metering'", "metering"),
        (r#""delivery.runner""#, "delivery"),
    ] {
        assert!(is_named(code, name), "{code}");
    }
    for code in ["let reply = answer.reply;", "Purpose::Reply", r#""no reply""#, "reply_text::Of", "super::replying"] {
        assert!(!is_named(code, "reply"), "{code}");
    }
    assert!(names().count() >= 4 && shipped().count() > 100, "the reader of files finds too little");
}

fn names() -> impl Iterator<Item = &'static str> {
    secretaria::processors::ALL.iter().map(|it| it.name.as_str())
}

fn shipped() -> impl Iterator<Item = &'static File> {
    let is_test = |it: &str| it.split('/').any(|part| part == "tests" || part.ends_with("tests.rs"));
    rust().filter(move |it| SHIPPED.iter().any(|place| it.path.starts_with(place)) && !is_test(&it.path))
}

/// The list, and the processor's own folder in whichever crate.
fn is_home(file: &File, name: &str) -> bool {
    file.path == LIST || file.path.contains(&format!("/src/{name}/")) || file.path.ends_with(&format!("/{name}.rs"))
}

/// The lines without comments, up to the file's own tests, which are last.
fn code_of(file: &File) -> impl Iterator<Item = &str> {
    let end = file.text.find("#[cfg(test)]\nmod tests {").unwrap_or(file.text.len());
    file.text[..end].lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line })
}

fn is_named(code: &str, name: &str) -> bool {
    let quoted = [format!("\"{name}\""), format!("'{name}'"), format!("\"{name}.")];
    if quoted.iter().any(|it| code.contains(it)) {
        return true;
    }
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
        if before.ends_with(is_word) || after.starts_with(is_word) {
            return false;
        }
        let is_imported = before.contains("use ") && before.contains("processors::{");
        after.starts_with("::") || before.ends_with("processors::") || before.ends_with("settings.") || is_imported
    })
}
