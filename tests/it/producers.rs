//! `docs/PRODUCERS.md` is true: every recipe in it is run as it is, and every reason of ours is in its table.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use domain::IgnoreReason;
use ingest::rejection::{Rejection, Unauthenticated, Unavailable};
use ingest::signature::{Claim, Secrets};
use serde::Deserialize;

use crate::support::recipe::{Language, output_of};

const DOCUMENT: &str = include_str!("../../docs/PRODUCERS.md");
const VECTORS: &str = include_str!("../../fixtures/hooks/signature_vectors.json");
const HOOK: &[u8] = include_bytes!("../../fixtures/hooks/baileys_conversation.json");

#[derive(Deserialize)]
struct Vector {
    case: String,
    current: String,
    previous: Option<String>,
    timestamp: Option<String>,
    signature: Option<String>,
    body: String,
    expect: String,
}

#[test]
fn every_recipe_signs_as_the_vectors_say() {
    for language in Language::here() {
        let (signing, _) = recipe(language);
        let script = format!("{signing}\n{}", signs_what_it_is_given(language));
        for Signed { case, secret, timestamp, body, signature } in signed() {
            let mut command = language.command(&language.folder("producers"), "sign", &script);
            command.env("SECRET", &secret).env("TIMESTAMP", &timestamp);
            assert_eq!(output_of(command, body.as_bytes()), signature, "{language:?}: {case}");
        }
    }
}

#[test]
fn every_recipe_sends_a_webhook_that_is_accepted() {
    for language in Language::here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/webhook/whaticket", listener.local_addr().unwrap());
        let server = thread::spawn(move || Request::accepted_from(&listener));
        let (signing, sending) = recipe(language);
        let folder = language.folder("producers");
        let mut command = language.command(&folder, "send", &format!("{signing}\n{sending}"));
        fs::write(folder.join("body.json"), HOOK).unwrap();
        command.env("WEBHOOK_URL", url).env("COMPANY_DOMAIN", "clinica.example").env("WEBHOOK_SECRET", "s3cret");
        let printed = output_of(command, b"");
        let request = server.join().unwrap();

        assert!(printed.contains("202") && printed.contains("queued"), "{language:?} printed {printed}");
        assert_eq!(request.line, "POST /webhook/whaticket HTTP/1.1", "{language:?}");
        assert_eq!(request.header("content-type"), "application/json", "{language:?}");
        assert_eq!(request.header("x-company-domain"), "clinica.example", "{language:?}");
        assert_eq!(request.body, HOOK, "{language:?}");
        let (timestamp, signature) = (request.header("x-timestamp"), request.header("x-signature"));
        let secrets = Secrets::new(b"s3cret", None);
        let now = platform::clock::now();
        let claim = Claim::read(Some(timestamp.as_bytes()), Some(signature.as_bytes()), now).unwrap();
        let proof = claim.verify(&secrets, &request.body, now);
        assert!(proof.is_ok(), "{language:?}: {proof:?}");
    }
}

#[test]
fn the_binary_signs_as_the_vectors_say() {
    for Signed { case, secret, timestamp, body, signature } in signed() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretaria"));
        command.env_clear().env("SECRETARIA_HOOK_SECRET", secret);
        command.args(["hook", "sign", "--company", "clinica.example", "--body", "-"]);
        command.arg(format!("--timestamp={timestamp}"));
        let printed = output_of(command, body.as_bytes());
        assert!(printed.contains(&format!("'x-signature: {signature}'")), "{case}: {printed}");
    }
}

#[test]
fn the_table_of_responses_has_every_reason_under_its_status() {
    let refusals: [Rejection; 15] = [
        Unauthenticated::MissingTimestamp.into(),
        Unauthenticated::StaleTimestamp.into(),
        Unauthenticated::FutureTimestamp.into(),
        Unauthenticated::MissingSignature.into(),
        Unauthenticated::BadSignature.into(),
        Unauthenticated::BadToken.into(),
        Rejection::NotJson { line: 1, column: 1 },
        Rejection::MissingNumber,
        Rejection::UnknownShape,
        Rejection::InvalidField { field: "number" },
        Rejection::TooLarge { limit: 1 },
        Rejection::Incomplete,
        Unavailable::NotDurable.into(),
        Unavailable::DirectoryNotLoaded.into(),
        Unavailable::ShuttingDown.into(),
    ];
    for refusal in refusals {
        let row = format!("\n| {} | `{}` |", refusal.status().as_u16(), refusal.outcome());
        assert!(DOCUMENT.contains(&row), "no row begins with {row}");
    }
}

#[test]
fn every_reason_to_ignore_is_explained() {
    let (_, explained) = DOCUMENT.split_once("## Accepted and ignored").unwrap();
    let reasons = [
        IgnoreReason::Group,
        IgnoreReason::Broadcast,
        IgnoreReason::Newsletter,
        IgnoreReason::OwnEcho,
        IgnoreReason::Edited,
        IgnoreReason::Revoked,
        IgnoreReason::Stub,
        IgnoreReason::Reaction,
        IgnoreReason::UnsupportedKind,
        IgnoreReason::Duplicate,
        IgnoreReason::CompanyInactive,
    ];
    for reason in reasons {
        assert!(explained.contains(&format!("`{reason}`")), "{reason} is not explained");
    }
}

/// What a vector says about signing, whether or not the webhook is accepted.
struct Signed {
    case: String,
    secret: String,
    timestamp: String,
    body: String,
    signature: String,
}

/// The vectors whose signature was made with one of their secrets. Hexadecimal digits may be upper-case in a header.
fn signed() -> Vec<Signed> {
    let vectors: Vec<Vector> = serde_json::from_str(VECTORS).unwrap();
    let well_made = ["current", "previous", "stale_timestamp", "future_timestamp"];
    let vectors = vectors.into_iter().filter(|it| well_made.contains(&it.expect.as_str()));
    let signed: Vec<Signed> = vectors
        .map(|it| Signed {
            case: it.case,
            secret: if it.expect == "previous" { it.previous.unwrap() } else { it.current },
            timestamp: it.timestamp.unwrap(),
            body: it.body,
            signature: it.signature.unwrap().to_lowercase(),
        })
        .collect();
    assert!(signed.len() > 10, "only {} vectors are well made", signed.len());
    signed
}

/// The recipe in the document: how it signs, and how it sends.
fn recipe(language: Language) -> (&'static str, &'static str) {
    let comment = if language == Language::Node { "// Send.\n" } else { "# Send.\n" };
    language.recipe(DOCUMENT).split_once(comment).unwrap()
}

/// A line that calls the recipe's `sign` with the environment and standard input.
fn signs_what_it_is_given(language: Language) -> &'static str {
    match language {
        Language::Shell => "sign \"$SECRET\" \"$TIMESTAMP\"",
        Language::Python => {
            "import sys\nprint(sign(os.environ['SECRET'], os.environ['TIMESTAMP'], sys.stdin.buffer.read()))"
        }
        Language::Node => "console.log(sign(process.env.SECRET, process.env.TIMESTAMP, readFileSync(0)));",
    }
}

/// A request as it came over the wire.
struct Request {
    line: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    /// Accepts one request and responds as ingest does.
    fn accepted_from(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let pair = |it: &String| it.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let headers: HashMap<String, String> = lines[1..].iter().filter_map(pair).collect();
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let answer = r#"{"queued":true,"id":"0"}"#;
        let head = format!("HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
        reader.get_mut().write_all(format!("{head}{answer}").as_bytes()).unwrap();
        Request { line: lines.swap_remove(0), headers, body }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}
