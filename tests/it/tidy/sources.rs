//! What holds for every source file: it opens with its contract, stays short, has a name that says something, and
//! leaves nothing undone behind a mark.

use super::{File, files, nothing_in, rust, words};

const LONGEST_LINES: usize = 400;

/// Files that are longer, with their exact length: it may only go down, and the entry with it.
const LONGER: &[(&str, usize)] = &[];

/// Names that fit anything, so that anything is put there.
const NAMELESS: &[&str] = &["util", "utils", "common", "types", "helper", "helpers", "misc", "data"];

/// Marks of work not done, or of a warning switched off for good.
const UNDONE: &[(&str, &str)] = &[
    ("#[allow(", "use #[expect(…, reason = \"…\")], which says when it is no longer needed"),
    ("#![allow(", "use #![expect(…, reason = \"…\")], which says when it is no longer needed"),
    ("todo!", "finish it, or return an error that says it is not there"),
    ("unimplemented!", "finish it, or return an error that says it is not there"),
    ("#[ignore", "a test that is never run proves nothing"),
    ("FIXME", "fix it, or write an issue"),
    ("TODO", "do it, or write an issue"),
];

/// Where safe Rust is not enough: what calls C.
const UNSAFE: &[&str] = &["tests/it/support/mock_cluster.rs", "pg_extension/"];

#[test]
fn every_rust_file_opens_with_its_contract() {
    let silent = files().filter(|it| it.ends_with(".rs") && !it.text.starts_with("//! "));
    nothing_in(silent.map(|it| format!("{}:1 does not open with `//! `", it.path)));
}

#[test]
fn no_file_is_longer_than_it_may_be() {
    let limited = files().filter(|it| it.ends_with(".rs") || it.ends_with(".sql") || it.is_shell());
    nothing_in(limited.filter_map(|it| {
        let length = it.text.lines().count();
        match LONGER.iter().find(|(path, _)| *path == it.path) {
            None if length > LONGEST_LINES => Some(format!("{} has {length} lines of {LONGEST_LINES}", it.path)),
            Some((_, ceiling)) if length > *ceiling => Some(format!("{} grew from {ceiling} to {length}", it.path)),
            Some((_, ceiling)) if length < *ceiling => {
                Some(format!("{} shrank to {length}: lower its entry from {ceiling}", it.path))
            }
            _ => None,
        }
    }));
}

#[test]
fn the_table_of_longer_files_names_only_files_that_exist() {
    let gone = LONGER.iter().filter(|(path, _)| files().all(|it| it.path != *path));
    nothing_in(gone.map(|(path, _)| format!("{path} is gone: remove its entry")));
}

#[test]
fn no_module_has_a_name_that_fits_anything() {
    let mut findings = Vec::new();
    for file in rust() {
        let named = |it: &str| NAMELESS.contains(&it.trim_end_matches(".rs"));
        if file.path.split('/').any(named) {
            findings.push(format!("{} has a name that fits anything", file.path));
        }
        for (number, line) in file.lines() {
            let mut parts = words(line).skip_while(|it| ["pub", "crate", "super", "in"].contains(it));
            if parts.next() == Some("mod") && parts.next().is_some_and(|it| NAMELESS.contains(&it)) {
                findings.push(format!("{}:{number} {}", file.path, line.trim()));
            }
        }
    }
    nothing_in(findings);
}

#[test]
fn nothing_is_left_undone_behind_a_mark() {
    nothing_in(rust().flat_map(marks));
}

fn marks(file: &File) -> Vec<String> {
    let marked = |(number, line): (usize, &str)| {
        let (mark, instead) = UNDONE.iter().find(|(mark, _)| line.contains(mark))?;
        Some(format!("{}:{number} {mark}: {instead}", file.path))
    };
    file.lines().filter_map(marked).collect()
}

#[test]
fn unsafe_stays_where_we_call_c() {
    let elsewhere = rust().filter(|it| !UNSAFE.iter().any(|place| it.path.starts_with(place)));
    nothing_in(elsewhere.flat_map(|file| {
        let named = |(number, line): (usize, &str)| {
            let code = line.split("//").next().unwrap_or_default();
            words(code).any(|it| it == "unsafe").then(|| format!("{}:{number} {}", file.path, line.trim()))
        };
        file.lines().filter_map(named).collect::<Vec<_>>()
    }));
}
