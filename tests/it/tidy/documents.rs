//! What documents name exists. Paths, links, make targets, subcommands with their flags, settings.

use std::collections::BTreeMap;
use std::path::Path;

use super::{File, files, nothing_in, root, run, secretaria};

/// Endings of files that are always ours when a document names them without their folder.
const ENDINGS: &[&str] = &[".rs", ".sql", ".sh", ".md"];

/// Folders that exist only after something ran.
const GENERATED: &[&str] = &[".local/", "target/"];

#[test]
fn every_path_a_document_names_exists() {
    let mut findings = Vec::new();
    for file in documents() {
        let named = code_of(&file.text).into_iter().filter(|it| !it.is_block && is_path(&it.text));
        let gone = named.filter(|it| !exists(it.text.trim_end_matches('/')));
        findings.extend(gone.map(|it| format!("{}:{} {}", file.path, it.line, it.text)));
    }
    nothing_in(findings);
}

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    let mut findings = Vec::new();
    for file in documents() {
        let folder = root().join(&file.path).parent().map(Path::to_owned).unwrap();
        for (number, line) in file.lines() {
            for target in line.split("](").skip(1).filter_map(|it| it.split([')', ' ']).next()) {
                let path = target.split('#').next().unwrap_or_default();
                if !path.is_empty() && !target.contains("://") && !folder.join(path).exists() {
                    findings.push(format!("{}:{number} {target}", file.path));
                }
            }
        }
    }
    nothing_in(findings);
}

#[test]
fn every_make_target_a_document_names_exists() {
    let makefile = files().find(|it| it.path == "Makefile").unwrap();
    let targets: Vec<&str> = makefile.text.lines().filter_map(|it| Some(it.split_once(": ## ")?.0)).collect();
    assert!(targets.contains(&"demo"), "the reader of the Makefile finds nothing: {targets:?}");
    nothing_in(commands().filter_map(|ShownCommand { place, words }| {
        let target = words.strip_prefix(&["make".to_owned()])?.iter().find(|it| !it.contains('=') && is_word(it))?;
        (!targets.contains(&target.as_str())).then(|| format!("{place} make {target}"))
    }));
}

#[test]
fn every_subcommand_a_document_names_exists_and_has_the_flags_it_shows() {
    let mut helps = BTreeMap::new();
    let mut findings = Vec::new();
    for ShownCommand { place, words } in commands() {
        if !words.first().is_some_and(|it| it == "secretaria" || it.ends_with("/secretaria")) {
            continue;
        }
        let mut path: Vec<&str> = Vec::new();
        for word in &words[1..] {
            let help = helps.entry(path.join(" ")).or_insert_with(|| help_of(&path)).clone();
            let flag = word.trim_start_matches('[').split(['=', ']']).next().unwrap_or_default();
            if flag.starts_with("--") {
                let has = help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n"));
                findings.extend((!has).then(|| format!("{place} secretaria {} {flag}", path.join(" "))));
            } else if is_word(word) && help.contains("\nCommands:\n") {
                // The document of upgrades names former names, which still work.
                let is_former = place.starts_with("docs/UPGRADING.md:") && is_accepted(&path, word);
                if !subcommands_of(&help).contains(&word.as_str()) && !is_former {
                    findings.push(format!("{place} secretaria {} {word}", path.join(" ")));
                    break;
                }
                path.push(word);
            }
        }
    }
    nothing_in(findings);
}

#[test]
fn every_setting_is_explained_to_operators() {
    let printed: toml::Table = run(secretaria().arg("config")).parse().unwrap();
    let mut keys = Vec::new();
    for (section, settings) in &printed {
        collect(section, settings, &mut keys);
    }
    assert!(keys.iter().any(|it| it == "http.listen"), "the reader of settings finds nothing: {keys:?}");
    let operating = files().find(|it| it.path == "docs/OPERATING.md").map_or("", |it| &it.text);
    // What every processor has is explained once: `*` stands for its name.
    let is_explained = |it: &str| {
        let names = secretaria::processors::ALL.iter().map(|processor| processor.name.as_str());
        let of_all = names.filter_map(|name| it.strip_prefix(name)).find(|rest| rest.starts_with(".runner."));
        operating.contains(&format!("`{it}`")) || of_all.is_some_and(|it| operating.contains(&format!("`*{it}`")))
    };
    let missing = keys.into_iter().filter(|it| !is_explained(it));
    nothing_in(missing.map(|it| format!("docs/OPERATING.md does not explain `{it}`")));
}

fn collect(name: &str, value: &toml::Value, keys: &mut Vec<String>) {
    match value {
        toml::Value::Table(inner) => {
            inner.iter().for_each(|(key, value)| collect(&format!("{name}.{key}"), value, keys))
        }
        _ => keys.push(name.to_owned()),
    }
}

fn documents() -> impl Iterator<Item = &'static File> {
    files().filter(|it| it.ends_with(".md") && (!it.path.contains('/') || it.path.starts_with("docs/")))
}

/// A piece of code in a document: what is between backticks, or a line of a fenced block.
pub(super) struct Code {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) is_block: bool,
}

pub(super) fn code_of(text: &str) -> Vec<Code> {
    let mut found = Vec::new();
    let mut is_block = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            found.push(Code { line: index + 1, text: line.to_owned(), is_block });
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.map(|it| Code { line: index + 1, text: it.to_owned(), is_block }));
        }
    }
    found
}

/// A command in a document, word by word.
struct ShownCommand {
    place: String,
    words: Vec<String>,
}

fn commands() -> impl Iterator<Item = ShownCommand> {
    documents().flat_map(|file| {
        code_of(&joined(&file.text)).into_iter().flat_map(|code| {
            let place = format!("{}:{}", file.path, code.line);
            let code = code.text.split(" #").next().unwrap_or_default().to_owned();
            let parts: Vec<String> = code.split(['|', ';', '&']).map(str::to_owned).collect();
            parts.into_iter().map(move |part| {
                let words = part.split_whitespace().map(|it| it.trim_matches(['"', '\'']).to_owned());
                // A prompt and variables come before the command.
                let words = words.skip_while(|it| it == "$" || it.contains('=') && !it.starts_with('-')).collect();
                ShownCommand { place: place.clone(), words }
            })
        })
    })
}

/// The text with the lines of a continued command on one line; the others keep their numbers.
fn joined(text: &str) -> String {
    let mut joined = String::new();
    let mut missing = 0;
    for line in text.lines() {
        if let Some(begun) = line.strip_suffix('\\') {
            joined.push_str(begun);
            missing += 1;
        } else {
            joined.push_str(line);
            joined.push_str(&"\n".repeat(1 + std::mem::take(&mut missing)));
        }
    }
    joined
}

pub(super) fn is_path(text: &str) -> bool {
    let is_plain = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-/".contains(&it));
    let is_ours =
        ENDINGS.iter().any(|it| text.len() > it.len() && text.ends_with(it)) || begins_in_a_folder_of_ours(text);
    is_plain && is_ours && !text.starts_with('/') && !GENERATED.iter().any(|it| text.starts_with(it))
}

fn begins_in_a_folder_of_ours(text: &str) -> bool {
    let folder = text.split_once('/').map(|(top, _)| top);
    folder.is_some_and(|top| files().any(|it| it.path.split_once('/').is_some_and(|(it, _)| it == top)))
}

/// A path from the top, or the end of one, as documents shorten them.
fn exists(path: &str) -> bool {
    root().join(path).exists() || files().any(|it| it.path.strip_suffix(path).is_some_and(|it| it.ends_with('/')))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_lowercase()) && text.bytes().all(|it| it.is_ascii_lowercase() || it == b'-')
}

/// The help of a subcommand.
fn help_of(path: &[&str]) -> String {
    run(secretaria().args(path).arg("--help"))
}

/// Whether the binary knows a subcommand, which its help may hide.
fn is_accepted(path: &[&str], word: &str) -> bool {
    secretaria().args(path).args([word, "--help"]).output().unwrap().status.success()
}

fn subcommands_of(help: &str) -> Vec<&str> {
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    listed.lines().filter_map(|it| it.split_whitespace().next()).collect()
}
