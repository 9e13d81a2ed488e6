//! The dependencies between our crates: data flows one way, and the stages never import one another.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::{nothing_in, run};

/// Which of our crates each crate may name in its code. Tests may use what they like.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("platform", &["domain"]),
    ("ingest", &["domain", "platform"]),
    ("processors", &["domain", "platform"]),
    ("api", &["domain", "platform", "analytics"]),
    ("analytics", &["domain", "platform"]),
    ("sandbox", &["domain"]),
    ("secretaria", &["domain", "platform", "ingest", "processors", "analytics", "api"]),
    ("testkit", &[]),
    ("extension-tests", &[]),
    ("demo", &["domain", "platform", "ingest", "processors", "analytics", "api", "sandbox", "secretaria"]),
];

#[test]
fn crates_depend_only_on_those_they_may_know() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut findings = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            findings.push(format!("crate {name} has no line in the table of arrows"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let (other, is_ours) = (dependency["name"].as_str().unwrap(), dependency["path"].is_string());
            if is_ours && dependency["kind"] != "dev" && !allowed.contains(&other) {
                findings.push(format!("crate {name} depends on {other}"));
            }
        }
    }
    nothing_in(findings);
}

#[test]
fn the_table_of_arrows_names_only_crates_that_exist() {
    let names: Vec<String> = packages().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    let named = ARROWS.iter().flat_map(|(name, allowed)| std::iter::once(name).chain(*allowed));
    nothing_in(named.filter(|it| names.iter().all(|name| name != *it)).map(|it| format!("no crate {it}")));
}

/// The images are built from what `.dockerignore` lets through, and cargo wants the manifest of every member, also of those
/// that it does not build.
#[test]
fn images_are_built_with_the_manifests_of_all_crates() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let ignored = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.dockerignore")).unwrap();
    let included: Vec<&str> = ignored.lines().filter_map(|it| it.strip_prefix('!')).collect();
    let is_included = |file: &str| {
        included.iter().any(|it| file.strip_prefix(it).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let manifests = packages().into_iter().map(|it| it["manifest_path"].as_str().unwrap().replace(root, ""));
    nothing_in(manifests.filter(|it| !is_included(it)).map(|it| format!("{it} is not in the images' build")));
}

fn packages() -> Vec<Value> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let metadata = run(Command::new(env!("CARGO")).args(arguments));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}
