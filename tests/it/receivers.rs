//! `docs/WEBHOOKS.md` is true: every recipe in it is run as it is, and we sign what it verifies.

use platform::webhook::Secret;
use serde::Deserialize;

use crate::support::recipe::{Language, output_of};

const DOCUMENT: &str = include_str!("../../docs/WEBHOOKS.md");
const VECTORS: &str = include_str!("../../fixtures/webhooks/signature_vectors.json");

#[derive(Deserialize)]
struct Vector {
    case: String,
    secret: String,
    id: String,
    timestamp: String,
    signatures: String,
    body: String,
    /// The receiver's clock, in epoch seconds.
    now: i64,
    /// Whether the receiver must accept it.
    expect: bool,
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = serde_json::from_str(VECTORS).unwrap();
    let accepted = vectors.iter().filter(|it| it.expect).count();
    assert!(accepted > 5 && vectors.len() - accepted > 5, "the vectors show both sides");
    vectors
}

/// A line that calls the recipe's `verify` with the environment and standard input.
fn verifies_what_it_is_given(language: Language) -> &'static str {
    match language {
        Language::Shell => {
            "if verify \"$SECRET\" \"$ID\" \"$TIMESTAMP\" \"$SIGNATURES\" \"$NOW\"; then echo true; else echo false; fi"
        }
        Language::Python => {
            "import os, sys\nit = os.environ\nprint(str(verify(it['SECRET'], it['ID'], it['TIMESTAMP'], it['SIGNATURES'],
             float(it['NOW']), sys.stdin.buffer.read())).lower())"
        }
        Language::Node => {
            "import { readFileSync } from 'node:fs';\nconst it = process.env;
             console.log(verify(it.SECRET, it.ID, it.TIMESTAMP, it.SIGNATURES, Number(it.NOW), readFileSync(0)));"
        }
    }
}

#[test]
fn every_recipe_accepts_what_is_ours_and_refuses_what_is_not() {
    for language in Language::here() {
        let script = format!("{}\n{}", language.recipe(DOCUMENT), verifies_what_it_is_given(language));
        let folder = language.folder("receivers");
        for it in vectors() {
            let mut command = language.command(&folder, "verify", &script);
            command.env("SECRET", &it.secret).env("ID", &it.id).env("TIMESTAMP", &it.timestamp);
            command.env("SIGNATURES", &it.signatures).env("NOW", it.now.to_string());
            assert_eq!(output_of(command, it.body.as_bytes()), it.expect.to_string(), "{language:?}: {}", it.case);
        }
    }
}

#[test]
fn what_we_sign_is_what_the_vectors_accept() {
    for it in vectors().into_iter().filter(|it| it.expect) {
        let secret = Secret::parse(&it.secret).unwrap();
        let ours = secret.sign(&it.id, it.timestamp.parse().unwrap(), it.body.as_bytes());
        assert!(it.signatures.split(' ').any(|one| one == ours), "{}", it.case);
    }
}
