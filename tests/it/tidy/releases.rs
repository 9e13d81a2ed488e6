//! What was released of the extension stays as it was released: databases out there were made by it.

use std::process::Command;

use super::{files, nothing_in, root, run};

/// Scripts of released versions, by what `git hash-object` says of them. A release adds lines, and changes none.
const RELEASED: &[(&str, &str)] =
    &[("pg_extension/sql/secretaria--0.1.0.sql", "2143e46302cb54322dede17857323a633b742691")];

#[test]
fn no_released_script_of_the_extension_is_ever_edited() {
    let edited = RELEASED.iter().filter_map(|(path, released)| {
        let found = run(Command::new("git").args(["hash-object", path]));
        (found.trim() != *released).then(|| format!("{path} was released as {released}: a change needs a new version"))
    });
    nothing_in(edited);
}

#[test]
fn every_version_before_the_newest_is_released_and_leads_to_it() {
    let control = std::fs::read_to_string(root().join("pg_extension/secretaria.control")).unwrap();
    let newest = control.lines().find_map(|it| it.strip_prefix("default_version = '")).unwrap().trim_end_matches('\'');
    let manifest = std::fs::read_to_string(root().join("pg_extension/Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("version = \"{newest}\"")), "the library and its control file differ");
    let scripts: Vec<_> =
        files().filter_map(|it| it.path.strip_prefix("pg_extension/sql/secretaria--")?.strip_suffix(".sql")).collect();
    assert!(scripts.contains(&newest), "{newest} has no script that installs it");
    // A script belongs to the version that it ends in.
    let of_older = scripts.iter().filter(|it| it.rsplit("--").next() != Some(newest));
    nothing_in(of_older.filter_map(|it| {
        let path = format!("pg_extension/sql/secretaria--{it}.sql");
        (!RELEASED.iter().any(|(released, _)| *released == path)).then(|| format!("{path} is not in RELEASED"))
    }));
    let installing = scripts.iter().filter(|it| !it.contains("--") && **it != newest);
    nothing_in(installing.filter_map(|it| {
        let leads = scripts.iter().any(|script| script.starts_with(&format!("{it}--")));
        (!leads).then(|| format!("no script leads on from {it}"))
    }));
}
