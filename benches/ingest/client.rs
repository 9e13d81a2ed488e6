//! The client: as many connections as asked for, each with one request in flight, and as little work as possible.
//!
//! One single-threaded runtime per core; connections are divided among them and take the next request from one list.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use platform::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::hooks::Hooks;
use crate::servers::Server;

/// Longest a round may take: something hangs if it does.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Responses are short; a longer one is not from our server.
const ANSWER_BYTES: usize = 2_048;

/// What one round took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) rps: f64,
    /// The server's CPU per request.
    pub(crate) cpu_us: f64,
    /// Median latency.
    pub(crate) p50_ms: f64,
    /// 99th percentile of the latency.
    pub(crate) p99_ms: f64,
}

/// Sends every webhook once, and fails if one is not answered with a 202.
pub(crate) fn run(server: &Server, hooks: &Arc<Hooks>, connections: usize) -> anyhow::Result<Round> {
    let threads = thread::available_parallelism()?.get().min(connections);
    let ready = Barrier::new(threads + 1);
    let row = Row { hooks: Arc::clone(hooks), next: Arc::default() };
    let mut latencies_us = Vec::with_capacity(hooks.len());
    let (took, cpu) = thread::scope(|scope| {
        let ready = &ready;
        let mut workers = Vec::with_capacity(threads);
        for worker in 0..threads {
            let share = connections / threads + usize::from(worker < connections % threads);
            let (row, address) = (row.clone(), server.address());
            workers.push(scope.spawn(move || work(address, share, row, ready)));
        }
        ready.wait();
        let (began, before) = (clock::instant(), server.cpu()?);
        for worker in workers {
            latencies_us.append(&mut worker.join().map_err(|_| anyhow!("a thread of the client panicked"))??);
        }
        anyhow::Ok((began.elapsed(), server.cpu()?.saturating_sub(before)))
    })?;
    ensure!(latencies_us.len() == hooks.len(), "{} of {} webhooks were answered", latencies_us.len(), hooks.len());
    latencies_us.sort_unstable();
    let count = hooks.len() as f64;
    Ok(Round {
        rps: count / took.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
        p50_ms: percentile(&latencies_us, 50),
        p99_ms: percentile(&latencies_us, 99),
    })
}

fn percentile(sorted_us: &[u32], percent: usize) -> f64 {
    sorted_us.get(sorted_us.len() * percent / 100).map_or(0.0, |&us| f64::from(us) / 1e3)
}

/// The webhooks still to be sent.
#[derive(Clone)]
struct Row {
    hooks: Arc<Hooks>,
    next: Arc<AtomicUsize>,
}

impl Row {
    fn next(&self) -> Option<&[u8]> {
        self.hooks.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Stops all threads after a failure.
    fn end(&self) {
        self.next.store(self.hooks.len(), Ordering::Relaxed);
    }
}

/// One thread: opens its connections, waits for the other threads, and sends until the list is empty.
fn work(address: SocketAddr, connections: usize, row: Row, ready: &Barrier) -> anyhow::Result<Vec<u32>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let opened = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let streams = runtime.block_on(connect(address, connections))?;
        Ok((runtime, streams))
    });
    // Also after a failure: the others wait here.
    ready.wait();
    let (runtime, streams) = opened.inspect_err(|_| row.end())?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for stream in streams {
            tasks.spawn(send(stream, row.clone()));
        }
        let all = async {
            let mut latencies_us = Vec::new();
            while let Some(ended) = tasks.join_next().await {
                latencies_us.append(&mut ended?.inspect_err(|_| row.end())?);
            }
            Ok(latencies_us)
        };
        tokio::time::timeout(TIMEOUT, all).await.context("the server no longer responds")?
    })
}

async fn connect(address: SocketAddr, connections: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    Ok(streams)
}

/// One connection: the next request as soon as the last response is read.
async fn send(mut stream: TcpStream, row: Row) -> anyhow::Result<Vec<u32>> {
    let mut latencies_us = Vec::new();
    let mut answer = [0; ANSWER_BYTES];
    while let Some(request) = row.next() {
        let began = clock::instant();
        stream.write_all(request).await?;
        let length = read(&mut stream, &mut answer).await?;
        latencies_us.push(u32::try_from(began.elapsed().as_micros())?);
        if !answer.starts_with(b"HTTP/1.1 202 ") {
            bail!("a webhook was not accepted: {}", String::from_utf8_lossy(&answer[..length]));
        }
    }
    Ok(latencies_us)
}

/// Reads one whole response: the head, and the body of the length that the head states.
async fn read(stream: &mut TcpStream, answer: &mut [u8; ANSWER_BYTES]) -> anyhow::Result<usize> {
    let mut length = 0;
    loop {
        let more = stream.read(&mut answer[length..]).await?;
        ensure!(more > 0, "the server closed the connection, or its response is too long");
        length += more;
        if let Some(whole) = whole_length(&answer[..length])
            && length >= whole
        {
            return Ok(length);
        }
    }
}

/// The length of the response with its body, once its head is complete.
fn whole_length(answer: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let head = answer.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let from = answer[..head].windows(LENGTH.len()).position(|it| it.eq_ignore_ascii_case(LENGTH))? + LENGTH.len();
    let digits = answer[from..head].iter().take_while(|it| it.is_ascii_digit());
    Some(head + digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}
