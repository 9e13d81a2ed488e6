//! What a document names in backticks is in the code: types, functions, tables, states, settings, words of the glossary.
//!
//! Held for the two documents that explain the code. Paths, links, commands and settings of every document are held by
//! `documents.rs`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::documents::{code_of, is_path};
use super::migrations::tables;
use super::{File, files, nothing_in, root, rust, words};

const DOCUMENTS: &[&str] = &["docs/ARCHITECTURE.md", "docs/ADDING_A_PROCESSOR.md"];

/// What stands for a name in a recipe.
const PLACEHOLDERS: &[&str] = &["NAME"];

const KEYWORDS: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules"];

#[test]
fn every_name_that_explains_the_code_is_in_the_code() {
    let mut findings = Vec::new();
    let mut seen = 0;
    for file in files().filter(|it| DOCUMENTS.contains(&it.path.as_str())) {
        for code in code_of(&file.text).iter().filter(|it| !it.is_block && is_name(&it.text)) {
            seen += 1;
            if !is_known(&code.text) {
                findings.push(format!("{}:{} {}", file.path, code.line, code.text));
            }
        }
    }
    assert!(seen > 150, "the reader of names finds too little: {seen} names");
    nothing_in(findings);
}

#[test]
fn every_word_of_the_glossary_is_in_the_code() {
    let architecture = files().find(|it| it.path == "docs/ARCHITECTURE.md").unwrap();
    let section = architecture.text.split("\n## Words of our own\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let terms: Vec<&str> =
        section.lines().filter_map(|it| it.strip_prefix("| ")?.split(" | ").next()).skip(1).collect();
    assert!(terms.len() > 5, "the reader of the glossary finds too little: {terms:?}");
    let terms = terms.iter().flat_map(|it| it.split(", "));
    nothing_in(terms.filter(|it| !is_part_of_a_name(it)).map(|it| format!("docs/ARCHITECTURE.md glossary: {it}")));
}

#[test]
fn the_reader_of_names_tells_those_that_exist() {
    for name in [
        "Consumer::commit",
        "Handler::handle",
        "Accounting::ByRange",
        "decide::on_message",
        "queue::postpone",
        "signature::Claim",
        "platform::attempt",
        "NewJob",
        "NewJob::lane",
        "publish_some",
        "event_outcomes",
        "in_flight",
        "inbound.messages",
        "reply.quiet_ms",
    ] {
        assert!(is_name(name) && is_known(name), "{name} is in the code");
    }
    for name in [
        "Consumer::take",
        "Intake::handle",
        "Accounting::ByHand",
        "decide::on_telegram",
        "queue::commit_batch",
        "signature::Desk",
        "platform::turns",
        "Station",
        "NewJob::parcel",
        "publish_none",
        "event_marks",
        "inbound.letters",
        "reply.quiet_years",
    ] {
        assert!(is_name(name) && !is_known(name), "{name} is not in the code");
    }
    for other in ["secretaria all", "/readyz", "429", "tests/it/tidy/", "clippy.toml", "X-Request-Id", "NAME"] {
        assert!(!is_name(other), "{other} is no name in the code");
    }
    assert!(is_part_of_a_name("turn") && !is_part_of_a_name("parcel"));
}

/// What the code defines and mentions.
#[derive(Default)]
struct Index {
    /// A module or type, and what is defined in it, or passed on by it.
    members: BTreeSet<(String, String)>,
    /// Functions, types, constants, variants, fields, modules.
    defined: BTreeSet<String>,
    /// Every identifier, those in strings included; tables under the names they have now.
    mentioned: BTreeSet<String>,
    text: String,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index::default();
    for file in sources() {
        let code = without_comments(file);
        index.mentioned.extend(words(&code).map(str::to_owned));
        if file.ends_with(".rs") {
            index.define(file, &code);
        }
        index.text.push_str(&code);
    }
    index.mentioned.extend(tables().into_iter().map(|it| it.name));
    index
});

impl Index {
    /// Relies on rustfmt: what is in a module begins a line, what is in a type is indented by four.
    fn define(&mut self, file: &File, code: &str) {
        let module = module_of(&file.path);
        self.defined.insert(module.clone());
        let mut owner = None;
        for line in code.lines() {
            let depth = line.len() - line.trim_start().len();
            if depth == 0 && !line.is_empty() {
                owner = owner_of(line).or(if line.starts_with('}') { None } else { owner });
            }
            let (item, has_keyword) = item_of(line);
            let Some(item) = item else { continue };
            match (depth, &owner) {
                (0, _) if has_keyword => self.add(&module, item),
                (4, Some(owner)) if has_keyword || is_variant(item) || line.contains(&format!("{item}:")) => {
                    let owner = owner.clone();
                    self.add(&owner, item);
                }
                _ => {}
            }
        }
        for passed_on in ["pub use ", "pub(crate) use ", "pub(super) use "] {
            for (at, _) in code.match_indices(passed_on) {
                let names = code[at + passed_on.len()..].split(';').next().unwrap_or_default();
                words(names).for_each(|it| self.add(&module, it));
            }
        }
    }

    fn add(&mut self, owner: &str, item: &str) {
        self.members.insert((owner.to_owned(), item.to_owned()));
        self.defined.insert(item.to_owned());
    }
}

/// What ships, without its tests. Migrations are history: only the tables they end with count.
fn sources() -> impl Iterator<Item = &'static File> {
    let sql = files().filter(|it| it.ends_with(".sql") && !it.path.starts_with("sql/migrations/"));
    let is_test = |it: &File| it.path.split('/').any(|part| ["tests", "tests.rs", "benches", "dev"].contains(&part));
    rust().chain(sql).filter(move |it| !is_test(it))
}

fn without_comments(file: &File) -> String {
    let mark = if file.ends_with(".rs") { "//" } else { "--" };
    let is_code = |line: &&str| !line.trim_start().starts_with(mark);
    file.text.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// `queue` of `platform/src/queue/mod.rs`, `claimer` of `claimer.rs`, `platform` of its `lib.rs`.
fn module_of(path: &str) -> String {
    let mut parts = path.trim_end_matches(".rs").rsplit('/');
    let name = parts.next().unwrap_or_default();
    let name =
        if ["mod", "lib", "main"].contains(&name) { parts.find(|it| *it != "src").unwrap_or(name) } else { name };
    name.to_owned()
}

/// The type that a block at the beginning of a line is about.
fn owner_of(line: &str) -> Option<String> {
    let opened = line.ends_with('{').then(|| line.trim_end_matches('{').trim())?;
    let subject = opened.split(" for ").last()?.split(" where").next()?;
    let mut parts = words(subject).skip_while(|it| ["pub", "crate", "super", "impl", "unsafe"].contains(it)).peekable();
    if subject.starts_with("impl<") {
        // Past the parameters: what follows the bracket that closes them.
        let after = subject.split_once("> ").map_or(subject, |(_, after)| after);
        return words(after).next().map(str::to_owned);
    }
    let kind = parts.peek().copied().unwrap_or_default();
    if ["struct", "enum", "trait", "mod", "union"].contains(&kind) {
        parts.next();
    } else if !opened.contains("impl") && !opened.contains(" for ") {
        return None;
    }
    parts.next().map(str::to_owned)
}

/// The name that a line defines, and whether a keyword says so.
fn item_of(line: &str) -> (Option<&str>, bool) {
    let modifiers = ["pub", "crate", "super", "async", "unsafe", "extern", "in"];
    let mut parts = words(line).skip_while(|it| modifiers.contains(it)).peekable();
    let is_const_fn = |first: &str, next: Option<&&str>| first == "const" && next == Some(&"fn");
    match parts.next() {
        Some(first) if is_const_fn(first, parts.peek()) => (parts.nth(1), true),
        Some(first) if KEYWORDS.contains(&first) => (parts.next(), true),
        first => (first, false),
    }
}

fn is_variant(item: &str) -> bool {
    item.starts_with(|it: char| it.is_ascii_uppercase())
}

/// Words joined by `::` or by dots, of which the first begins with a letter; `()` may follow.
fn is_name(text: &str) -> bool {
    let text = text.trim_end_matches("()");
    let is_word = |it: &str| {
        it.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
            && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    !is_path(text)
        && !root().join(text).exists()
        && !PLACEHOLDERS.contains(&text)
        && text.split("::").flat_map(|it| it.split('.')).all(is_word)
        && (!text.contains("::") || !text.contains('.'))
}

fn is_known(text: &str) -> bool {
    let text = text.trim_end_matches("()");
    if text.contains("::") {
        let parts: Vec<&str> = text.split("::").collect();
        return parts.windows(2).all(|it| INDEX.members.contains(&(it[0].to_owned(), it[1].to_owned())));
    }
    if text.contains('.') {
        return is_setting(text) || INDEX.text.contains(&format!("\"{text}\""));
    }
    if is_variant(text) { INDEX.defined.contains(text) } else { INDEX.mentioned.contains(text) }
}

/// A field of a section of the settings, both by their names.
fn is_setting(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.split_last().is_some_and(|(key, sections)| {
        INDEX.members.contains(&("Config".to_owned(), (*key).to_owned()))
            && sections.iter().all(|it| INDEX.defined.contains(*it))
    })
}

/// A word of a name: `turn` of `TurnEnd` and of `turns`.
fn is_part_of_a_name(term: &str) -> bool {
    let joined = term.replace(' ', "_");
    let parts = |name: &str| -> Vec<String> {
        let spaced: String =
            name.chars().flat_map(|it| if it.is_ascii_uppercase() { vec!['_', it] } else { vec![it] }).collect();
        spaced.to_lowercase().split('_').map(str::to_owned).collect()
    };
    INDEX.defined.iter().any(|name| {
        let parts = parts(name);
        parts.iter().any(|it| *it == joined || *it == format!("{joined}s"))
    })
}
