//! The server over real sockets: its timeouts, its bound on connections, and its shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Config, serve};
use crate::task::{Stop, spawn};

/// Reached only by a test that fails.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    stop: Stop,
    running: JoinHandle<()>,
    /// A request to `/slow` is answered for each permit.
    go: Arc<Semaphore>,
    /// Requests that have come to `/slow`.
    slow: Arc<AtomicUsize>,
}

async fn start(connections: usize, header_timeout_ms: u64) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, go, slow) = (Stop::new(), Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let waits = (Arc::clone(&go), Arc::clone(&slow));
    let routes = Router::new()
        .route("/fast", get(|| async { "fast" }))
        .route("/refused", post(|| async { (StatusCode::UNAUTHORIZED, "no") }))
        .route("/read", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
        .route(
            "/slow",
            get(move || async move {
                waits.1.fetch_add(1, Ordering::SeqCst);
                waits.0.acquire().await.unwrap().forget();
                "slow"
            }),
        );
    let config = Config { connections, header_timeout_ms, drain_ms: 20_000, ..Config::default() };
    let stopped = stop.clone();
    let running = spawn("server", async move { serve(listener, routes, &config, stopped).await });
    Server { address, stop, running, go, slow }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn slow_requests(&self, expected: usize) {
        let reached = async {
            while self.slow.load(Ordering::SeqCst) < expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached).await.unwrap();
    }
}

async fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
}

/// What is received until the server closes its side.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut received)).await.expect("the server closes").unwrap();
    String::from_utf8(received).unwrap()
}

/// What is received until it ends with this text.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        let more = tokio::time::timeout(TIMEOUT, stream.read_buf(&mut received)).await.expect("the server answers");
        assert_ne!(more.unwrap(), 0, "closed after {}", String::from_utf8_lossy(&received));
    }
    String::from_utf8(received).unwrap()
}

#[tokio::test]
async fn headers_that_never_end_close_the_connection() {
    let server = start(10, 200).await;
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.write_all(b"GET /fast HTTP/1.1\r\nhost: a\r\nx-more").await.unwrap();
    assert_eq!((until_closed(&mut silent).await, until_closed(&mut half).await), (String::new(), String::new()));
}

#[tokio::test]
async fn a_connection_without_a_next_request_is_not_kept_forever() {
    let server = start(10, 200).await;
    let mut idle = server.connect().await;
    ask(&mut idle, "/fast").await;
    assert!(until_closed(&mut idle).await.ends_with("fast"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_for_a_new_one() {
    let server = start(1, 60_000).await;
    let mut idle = server.connect().await;
    ask(&mut idle, "/fast").await;
    until(&mut idle, "fast").await;
    let mut next = server.connect().await;
    ask(&mut next, "/fast").await;
    until(&mut next, "fast").await;
    assert_eq!(until_closed(&mut idle).await, "");
}

#[tokio::test]
async fn above_the_cap_a_connection_waits_for_one_that_is_busy() {
    let server = start(2, 60_000).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        ask(&mut stream, "/slow").await;
        all.push(stream);
    }
    server.slow_requests(2).await;
    for served in 1..=2 {
        server.go.add_permits(1);
        server.slow_requests(2 + served).await;
        assert_eq!(server.slow.load(Ordering::SeqCst), 2 + served, "one is admitted for each that is answered");
    }
    server.go.add_permits(2);
    for stream in &mut all {
        until(stream, "slow").await;
    }
}

#[tokio::test]
async fn an_answer_sent_before_the_body_was_read_reaches_a_peer_that_is_still_sending() {
    let server = start(10, 60_000).await;
    let mut stream = server.connect().await;
    let body = vec![b'x'; 8 << 20]; // More than sockets hold: it is sent only if it is read.
    let head = format!("POST /refused HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::timeout(TIMEOUT, stream.write_all(&body)).await.unwrap().unwrap();
    let received = until_closed(&mut stream).await;
    assert!(received.starts_with("HTTP/1.1 401 ") && received.ends_with("\r\n\r\nno"), "{received}");
    assert!(received.contains("connection: close\r\n"), "{received}");
}

#[tokio::test]
async fn an_answer_does_not_wait_for_a_body_that_never_comes() {
    let server = start(10, 60_000).await;
    let mut stream = server.connect().await;
    stream.write_all(b"POST /refused HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut stream).await.ends_with("no"));
}

#[tokio::test]
async fn a_body_that_was_read_keeps_the_connection() {
    let server = start(10, 60_000).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream.write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        assert!(!until(&mut stream, "\r\n\r\n3").await.contains("connection: close"));
    }
    stream
        .write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        .await
        .unwrap();
    assert!(!until(&mut stream, "\r\n\r\n2").await.contains("connection: close"));
}

#[tokio::test]
async fn a_stop_lets_the_current_request_complete_and_accepts_nothing_else() {
    let server = start(10, 60_000).await;
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    ask(&mut idle, "/fast").await;
    until(&mut idle, "fast").await;
    ask(&mut busy, "/slow").await;
    server.slow_requests(1).await;
    server.stop.cancel();
    assert_eq!(until_closed(&mut idle).await, "");
    let refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    tokio::time::timeout(TIMEOUT, refused).await.expect("nothing new is accepted");
    assert!(!server.running.is_finished());
    server.go.add_permits(1);
    assert!(until_closed(&mut busy).await.ends_with("slow"));
    tokio::time::timeout(TIMEOUT, server.running).await.unwrap().unwrap();
}
