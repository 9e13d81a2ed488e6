//! Every SQL block of `README.md` runs, in order, on a fresh database, and says what the README says.
//!
//! After a statement, `-- 42501` is the SQLSTATE it is refused with, and `-- 2 rows` how many rows it returns.

use crate::support::{database, outcome};

const README: &str = include_str!("../../README.md");

/// A statement, and what its comment says of it.
struct Statement {
    text: String,
    said: String,
}

/// The statements of the blocks that are marked as SQL.
fn statements() -> Vec<Statement> {
    let mut found = Vec::new();
    for block in README.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let mut text = String::new();
        for line in block.lines() {
            let (code, said) = line.split_once(" -- ").unwrap_or((line, ""));
            text.push_str(code);
            text.push('\n');
            if code.trim_end().ends_with(';') {
                found.push(Statement { text: std::mem::take(&mut text), said: said.to_owned() });
            }
        }
        assert_eq!(text.trim(), "", "a block ends within a statement");
    }
    found
}

#[test]
fn does_what_it_says() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    session.batch_execute("drop extension secretaria").expect("as before `create extension`");
    let (mut refused, mut counted) = (0, 0);
    for Statement { text, said } in statements() {
        let answer = outcome(&mut session, &text);
        let is_code =
            said.len() == 5 && said.chars().all(|letter| letter.is_ascii_digit() || letter.is_ascii_uppercase());
        if is_code {
            assert_eq!(answer, Err(said), "{text}");
            refused += 1;
            continue;
        }
        let rows = answer.unwrap_or_else(|code| panic!("{code}: {text}"));
        if let Some(wanted) = said.strip_suffix(" rows").or(said.strip_suffix(" row")) {
            assert_eq!(rows.len().to_string(), wanted, "{text}{rows:?}");
            counted += 1;
        }
    }
    assert!(refused >= 2 && counted >= 4, "the README shows too little: {refused} refusals, {counted} counts");
    assert!(README.contains("require_feature(") && README.contains("create policy"));
}
