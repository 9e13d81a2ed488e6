//! What is answered before a webhook's body has arrived, over real sockets, without a broker or a database.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use platform::health::Readiness;
use platform::kafka::{self, Producer};
use platform::task::{self, Stop};
use platform::{clock, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::signature::Secrets;
use crate::{Companies, Config, Ingest, WebhooksFirst};

/// Reached only by a test that fails.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than any test, so that no answer is caused by this timeout.
const NEVER_MS: u64 = 600_000;

async fn start(body_timeout_ms: u64) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::default();
    readiness.open();
    let ingest = Ingest {
        companies: Companies::of_one("clinica.test", Secrets::new(b"s3cret", None)),
        producer: Producer::with_short_timeout(&kafka::Config::default(), "test").unwrap(),
        config: Config { body_timeout_ms, ..Config::default() },
        readiness,
    };
    task::spawn("server", async move {
        http::serve(
            listener,
            WebhooksFirst::new(Some(ingest.into()), Router::new()),
            &http::Config::default(),
            Stop::new(),
        )
        .await;
    });
    address
}

/// The status and the reason of the answer to these headers and the first byte of a body of `length`.
async fn answer(address: SocketAddr, headers: &[(&str, String)], length: usize) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("POST /webhook/whaticket HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n{{").as_bytes()).await.unwrap();
    let mut response = String::new();
    let closed = tokio::time::timeout(TIMEOUT, stream.read_to_string(&mut response)).await;
    closed.expect("the connection is closed after an answer that did not wait for the body").unwrap();
    let status = response.split(' ').nth(1).unwrap();
    let (_, reason) = response.split_once("\"reason\":\"").unwrap();
    format!("{status} {}", reason.split('"').next().unwrap())
}

fn headers(company: &str, timestamp: &str, signature: &str) -> [(&'static str, String); 3] {
    [
        ("x-company-domain", company.to_owned()),
        ("x-timestamp", timestamp.to_owned()),
        ("x-signature", signature.to_owned()),
    ]
}

#[tokio::test]
async fn what_the_headers_alone_decide_does_not_wait_for_the_body() {
    let address = start(NEVER_MS).await;
    let now = clock::now().as_second();
    let (at, forged) = (|second: i64| second.to_string(), "0".repeat(64));
    for company in ["clinica.test", "unknown.test"] {
        let mut answers = Vec::new();
        for (timestamp, signature, length) in [
            (at(now), forged.as_str(), 1_048_577),
            (at(now - 400), &forged, 1000),
            (at(now + 400), &forged, 1000),
            ("yesterday".to_owned(), &forged, 1000),
            (at(now), "", 1000),
            (at(now), "zz", 1000),
            (at(now), &forged[1..], 1000),
        ] {
            answers.push(answer(address, &headers(company, &timestamp, signature), length).await);
        }
        let expected = [
            "413 too_large",
            "401 stale_timestamp",
            "401 future_timestamp",
            "401 missing_timestamp",
            "401 missing_signature",
            "401 bad_signature",
            "401 bad_signature",
        ];
        assert_eq!(answers, expected, "{company}");
    }
}

#[tokio::test]
async fn a_forged_signature_and_an_unknown_company_are_both_refused_only_after_the_body() {
    let address = start(100).await;
    let now = clock::now().as_second().to_string();
    for company in ["clinica.test", "unknown.test"] {
        let answer = answer(address, &headers(company, &now, &"0".repeat(64)), 1000).await;
        assert_eq!(answer, "408 incomplete_body", "{company}");
    }
}
