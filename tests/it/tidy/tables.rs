//! Each table has one writing module, so that it is clear where a table is changed.

use std::collections::{BTreeMap, BTreeSet};

use super::migrations::tables;
use super::{File, files, nothing_in, rust};

/// Tables that more than one module writes, and why. A module is a crate and the module below its root.
const SHARED: &[(&str, &[&str], &str)] = &[
    ("outbox", &["platform::outbox", FUNCTIONS], "the functions announce what they decide"),
    ("dead_letters", &["platform::consumer", "processors::dead_letters"], "one adds, the other settles"),
    ("turns", &["processors::reply", "processors::conversations"], "a divided contact takes its turns along"),
];

/// The quota functions: SQL in a folder of its own.
const FUNCTIONS: &str = "sql::functions";

/// Tables that no code writes after the migrations: the operator does, at the SQL prompt.
const BY_HAND: &[&str] = &[
    "features_catalog",
    "plans",
    "plan_versions",
    "plan_features",
    "subscription_policies",
    "company_overrides",
    "feature_flags",
    "ai_model_prices",
    "queue_limits",
];

const WRITES: &[&str] = &["insert into ", "update ", "update only ", "delete from ", "merge into ", "truncate "];

#[test]
fn each_table_is_written_by_one_module() {
    let mut findings = Vec::new();
    for (table, modules) in writers() {
        let allowed = SHARED.iter().find(|(shared, ..)| *shared == table);
        let expected = allowed.map_or(1, |(_, named, _)| named.len());
        let is_named = allowed.is_none_or(|(_, named, _)| modules.iter().all(|it| named.contains(&it.as_str())));
        if modules.len() != expected || !is_named {
            findings.push(format!("{table} is written by {}", modules.into_iter().collect::<Vec<_>>().join(", ")));
        }
    }
    nothing_in(findings);
}

#[test]
fn each_table_has_a_writer() {
    let written = writers();
    assert!(written.len() > 5, "the reader of writes finds nothing: {written:?}");
    nothing_in(
        tables()
            .iter()
            .filter(|it| written.contains_key(&it.name) == BY_HAND.contains(&it.name.as_str()))
            .map(|it| format!("{} has no writer, or is no longer written by hand alone", it.name)),
    );
}

fn writers() -> BTreeMap<String, BTreeSet<String>> {
    let tables = tables();
    let mut writers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let sql = files()
        .filter(|it| it.ends_with(".sql") && (it.path.starts_with("sql/functions/") || it.path.contains("/src/")));
    for file in rust().chain(sql).filter(|it| is_shipped(it)) {
        let module = module_of(&file.path);
        let text = file.text.split_whitespace().collect::<Vec<_>>().join(" ");
        for write in WRITES {
            for (at, _) in text.match_indices(write) {
                let target = text[at + write.len()..].trim_start_matches("secretaria.");
                let target = target.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').next();
                if tables.iter().any(|it| Some(it.name.as_str()) == target) {
                    writers.entry(target.unwrap_or_default().to_owned()).or_default().insert(module.clone());
                }
            }
        }
    }
    writers
}

/// Tests and the demonstration may put rows where they like.
fn is_shipped(file: &File) -> bool {
    let path = &file.path;
    !path.starts_with("dev/") && !path.split('/').any(|it| ["tests", "tests.rs", "testkit", "benches"].contains(&it))
}

/// `api/src/companies/store.rs` is in `api::companies`; what is below the root's `src/` is `secretaria`'s.
fn module_of(path: &str) -> String {
    if path.starts_with("sql/") {
        return FUNCTIONS.to_owned();
    }
    let (name, below) = path.split_once("/src/").or_else(|| Some(("secretaria", path.strip_prefix("src/")?))).unwrap();
    let module = below.split('/').next().unwrap_or_default();
    format!("{name}::{}", module.trim_end_matches(".rs"))
}
