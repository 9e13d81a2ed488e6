//! Nothing in the repository is about a machine, a workplace or a person.

use super::{File, RULES, files, nothing_in};

/// Folders of a developer's machine.
const MACHINES: &[&str] = &["/home/", "/root/", "/Users/", "/work/", "C:\\Users"];

/// Signs of a registry that only one workplace can reach: each machine configures its own.
const REGISTRIES: &[&str] = &[
    "artifactory",
    "jfrog",
    "sonatype",
    "pkgs.dev.azure",
    "index-url",
    "replace-with",
    "GOPROXY=",
    "NPM_CONFIG_REGISTRY",
    "registry=",
    "<mirror>",
];

/// The ends of host names and addresses that are reserved, or never resolve.
const RESERVED: &[&str] = &[".example", ".test", ".invalid", ".localhost", "example.com", "example.org", "example.net"];

/// What WhatsApp writes after an `@`.
const WHATSAPP: &[&str] = &["s.whatsapp.net", "c.us", "g.us"];

/// Numbers without four equal digits in a row that are made up all the same.
const MADE_UP: &[&str] = &["5511988877766", "551188877766"];

#[test]
fn no_file_names_a_folder_of_a_developers_machine() {
    let has = |file: &File, line: &str| {
        !file.path.starts_with(RULES)
            && MACHINES.iter().any(|folder| {
                line.match_indices(folder).any(|(at, _)| {
                    // A URL's path, or a folder further down, may be called anything.
                    !line[..at].ends_with(|it: char| it.is_ascii_alphanumeric() || "._-}*$/~".contains(it))
                })
            })
    };
    nothing_in(lines_that(has));
}

#[test]
fn no_file_names_a_private_registry() {
    let has = |file: &File, line: &str| {
        !file.path.starts_with(RULES) && REGISTRIES.iter().any(|it| line.to_lowercase().contains(&it.to_lowercase()))
    };
    nothing_in(lines_that(has));
}

#[test]
fn the_lock_file_knows_the_public_registry_only() {
    let lock = files().find(|it| it.path == "Cargo.lock").unwrap();
    let sources = lock.lines().filter(|(_, line)| line.starts_with("source = "));
    let foreign =
        sources.filter(|(_, line)| *line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
    nothing_in(foreign.map(|(number, line)| format!("{}:{number} {line}", lock.path)));
}

#[test]
fn every_mail_address_is_reserved() {
    let has = |_: &File, line: &str| line.match_indices('@').any(|(at, _)| is_real_address(line, at));
    nothing_in(lines_that(has));
}

fn is_real_address(line: &str, at: usize) -> bool {
    let is_part = |it: char| it.is_ascii_alphanumeric() || "._%+-".contains(it);
    let host: &str = line[at + 1..].split(|it| !is_part(it)).next().unwrap_or_default();
    let host = host.trim_end_matches('.');
    let top = host.rsplit_once('.').map_or("", |(_, top)| top);
    line[..at].ends_with(is_part)
        && top.len() >= 2
        && top.chars().all(|it| it.is_ascii_alphabetic())
        && !WHATSAPP.contains(&host)
        && !RESERVED.iter().any(|it| host.ends_with(it))
}

#[test]
fn every_telephone_number_is_made_up() {
    let has = |file: &File, line: &str| {
        let numbers = line.split(|it: char| !it.is_ascii_alphanumeric());
        let mut brazilian = numbers.filter(|it| {
            (12..=13).contains(&it.len()) && it.starts_with("55") && it.bytes().all(|byte| byte.is_ascii_digit())
        });
        file.path != "Cargo.lock" && brazilian.any(|it| !is_made_up(it))
    };
    nothing_in(lines_that(has));
}

fn is_made_up(number: &str) -> bool {
    MADE_UP.contains(&number) || number.as_bytes().windows(4).any(|it| it.iter().all(|digit| *digit == it[0]))
}

fn lines_that(has: impl Fn(&File, &str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files() {
        let found = file.lines().filter(|(_, line)| has(file, line));
        findings.extend(found.map(|(number, line)| {
            let shown: String = line.trim().chars().take(120).collect();
            format!("{}:{number} {shown}", file.path)
        }));
    }
    findings
}
