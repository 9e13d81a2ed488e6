//! What holds for migrations: a number and a verb phrase, the reason first, one style, and tables that can be distributed
//! by company.

use super::{File, files, nothing_in, words};

const FOLDER: &str = "sql/migrations/";

/// Tables whose key begins with something else than the company that its rows are of, and why.
const KEYED_OTHERWISE: &[(&str, &str)] =
    &[("jobs_scheduled", "what is due is found by queue and instant, over all companies")];

/// Tables without a company, and why.
const OF_NO_COMPANY: &[(&str, &str)] = &[
    ("consumer_offsets", "partitions hold records of all companies"),
    ("topic_ends", "partitions hold records of all companies"),
    ("event_ranges", "a range of a partition holds records of all companies"),
    ("heartbeats", "processes work for all companies"),
    ("features_catalog", "what can be sold is the same for all companies"),
    ("plans", "what can be sold is the same for all companies"),
    ("plan_versions", "what can be sold is the same for all companies"),
    ("plan_features", "what can be sold is the same for all companies"),
    ("subscription_policies", "what can be sold is the same for all companies"),
    ("ai_model_prices", "providers have the same prices for all companies"),
    ("periodic_jobs", "a periodic job is the program's own"),
    ("lake_batches", "a batch holds events of all companies"),
    ("lake_files", "a file holds events of all companies"),
    ("rollup_utc_days", "a day of the lake holds events of all companies"),
];

#[test]
fn migrations_are_numbered_without_gaps_and_named_by_what_they_do() {
    let mut findings = Vec::new();
    for (index, file) in migrations().enumerate() {
        let number = format!("V{:04}__", index + 1);
        let phrase = file.path[FOLDER.len()..].strip_prefix(&number).and_then(|it| it.strip_suffix(".sql"));
        let is_phrase = |it: &str| {
            it.contains('_')
                && it.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if !phrase.is_some_and(is_phrase) {
            findings.push(format!("{} is not {number}verb_phrase.sql", file.path));
        }
    }
    nothing_in(findings);
}

#[test]
fn every_sql_file_says_first_what_it_is_for() {
    let silent = sql().filter(|it| !it.text.starts_with("-- "));
    nothing_in(silent.map(|it| format!("{}:1 is no comment", it.path)));
}

#[test]
fn sql_is_written_in_lower_case() {
    let mut findings = Vec::new();
    for file in sql() {
        for (index, line) in code_of(&file.text).lines().enumerate() {
            let is_upper_case = |it: &str| it.len() > 1 && it.bytes().all(|byte| byte.is_ascii_uppercase());
            if let Some(word) = words(line).find(|it| is_upper_case(it)) {
                findings.push(format!("{}:{} {word}", file.path, index + 1));
            }
        }
    }
    nothing_in(findings);
}

#[test]
fn every_tenant_table_has_a_primary_key_that_begins_with_the_company() {
    let mut findings = Vec::new();
    let mut tenants = 0;
    for file in migrations() {
        let tables = tables_of(&file.text);
        for Table { name, definition } in tables.iter().filter(|it| words(&it.definition).any(|it| it == "company_id"))
        {
            tenants += 1;
            let flat = words(definition).collect::<Vec<_>>().join(" ");
            // After the table's name: as a constraint, or on the column, which is then the first.
            let is_of_company =
                flat.contains("primary key company_id") || first_column(definition).ends_with("primary key");
            let is_excepted = KEYED_OTHERWISE.iter().any(|(table, _)| table == name);
            if is_excepted == (is_of_company && flat.starts_with("company_id ")) {
                findings.push(format!("{}: table {name}", file.path));
            }
        }
    }
    assert!(tenants > 5, "the reader of migrations finds too little: {tenants} tenant tables");
    nothing_in(findings);
}

#[test]
fn every_table_has_a_company_or_a_reason_to_have_none() {
    let tables = tables();
    let is_excepted = |it: &Table| OF_NO_COMPANY.iter().any(|(table, _)| *table == it.name);
    let differs = tables.iter().filter(|it| words(&it.definition).any(|it| it == "company_id") == is_excepted(it));
    nothing_in(differs.map(|it| format!("table {}: its company, or its line in the table of exceptions", it.name)));
    let gone = OF_NO_COMPANY.iter().chain(KEYED_OTHERWISE).filter(|(name, _)| tables.iter().all(|it| it.name != *name));
    nothing_in(gone.map(|(name, _)| format!("no table {name}: remove its exception")));
}

/// A table as a migration creates it.
pub(super) struct Table {
    pub(super) name: String,
    definition: String,
}

/// The tables under the names that they have after the last migration.
pub(super) fn tables() -> Vec<Table> {
    let mut tables: Vec<Table> = migrations().flat_map(|it| tables_of(&it.text)).collect();
    for (old, new) in migrations().flat_map(|it| renames_of(&it.text)) {
        tables.iter_mut().filter(|it| it.name == old).for_each(|it| it.name = new.clone());
    }
    tables
}

/// What `alter table … rename to …` renames.
fn renames_of(text: &str) -> Vec<(String, String)> {
    let code = code_of(text);
    let renames = code.split("alter table secretaria.").skip(1).filter_map(|it| {
        let (old, new) = it.split(';').next()?.split_once(" rename to ")?;
        Some((old.to_owned(), new.trim().to_owned()))
    });
    renames.collect()
}

fn tables_of(text: &str) -> Vec<Table> {
    let code = code_of(text);
    let created = code.split("create table ").skip(1).filter_map(|it| {
        let (name, definition) = it.split_once('(')?;
        let name = name.trim().trim_start_matches("if not exists ").trim_start_matches("secretaria.");
        let definition = definition.split(';').next()?;
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            .then(|| Table { name: name.to_owned(), definition: definition.to_owned() })
    });
    created.collect()
}

fn first_column(definition: &str) -> String {
    definition.split(',').next().unwrap_or_default().trim().to_owned()
}

fn migrations() -> impl Iterator<Item = &'static File> {
    files().filter(|it| it.path.starts_with(FOLDER))
}

fn sql() -> impl Iterator<Item = &'static File> {
    files().filter(|it| it.ends_with(".sql"))
}

/// The text without what comments and strings say; lines stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let (mut in_string, mut in_comment) = (false, false);
    while let Some(it) = rest.next() {
        match it {
            '\n' => in_comment = false,
            '\'' if !in_comment => in_string = !in_string,
            '-' if !in_string && rest.peek() == Some(&'-') => in_comment = true,
            _ if in_string || in_comment => continue,
            _ => {}
        }
        if it == '\n' || it != '\'' && !in_string && !in_comment {
            code.push(it);
        }
    }
    code
}
