//! How many signed webhooks a second one `secretaria ingest` makes durable, and what that costs beside no work at all.
//!
//! Two servers get the same prepared requests from the same client in turns: the real binary, and an axum handler
//! that only reads the body and responds 202. Both are processes of their own, so that CPU and memory are theirs alone.
//! Client, servers, broker and database share this machine's cores: the ratio is the result, not the rate.
//!
//! Needs the stack of `dev/bench.sh` and its variables. Nothing but a 202 is tolerated, the topic must have grown by
//! exactly the webhooks that were answered, and each must have its line in the log. The last line printed is JSON.

mod bare;
mod client;
mod ends;
mod hooks;
mod report;
mod servers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Parser;
use secretaria::Settings;

use ends::EndOffsets;
use hooks::{Hooks, Producers};
use report::{Pair, Report};
use servers::Server;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Webhooks sent to each server before anything is measured: the broker compiles its hot paths meanwhile.
const WARM_UP: usize = 200_000;
/// Webhooks sent before each further number of connections is measured.
const WARM_UP_AGAIN: usize = 40_000;

/// Signed webhooks against the real ingest and against a bare handler.
#[derive(Parser)]
struct Args {
    /// Numbers of open connections, each measured on its own.
    #[arg(long, env = "SECRETARIA_BENCH_CONNECTIONS", value_delimiter = ',', default_value = "64,512")]
    connections: Vec<usize>,
    /// Rounds per number of connections; medians are reported.
    #[arg(long, env = "SECRETARIA_BENCH_ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Webhooks per round.
    #[arg(long, env = "SECRETARIA_BENCH_REQUESTS", default_value_t = 80_000)]
    requests: usize,
    /// Companies that send.
    #[arg(long, default_value_t = 50)]
    companies: usize,
    /// Another build's `secretaria`, to be measured in the place of the bare handler.
    #[arg(long, env = "SECRETARIA_BENCH_AGAINST")]
    against: Option<PathBuf>,
    /// Be the bare server instead.
    #[arg(long)]
    bare: bool,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = if args.bare { bare::serve() } else { measure(&args) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench ingest: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    ensure!((1_000..=500_000).contains(&args.requests), "--requests must be from 1000 to 500000");
    ensure!((1..=1_000).contains(&args.companies), "--companies must be from 1 to 1000");
    ensure!(args.connections.iter().all(|it| (1..=4_096).contains(it)), "--connections must be from 1 to 4096 each");
    let settings = Settings::load(None)?;
    let mut producers = Producers::register(&settings, args.companies).context("is this dev/bench.sh ingest?")?;
    let ends = EndOffsets::of(&settings);
    let (bare, real) = match &args.against {
        Some(program) => (Server::other_build(program, &settings)?, Server::real(&settings)?),
        None => (Server::bare()?, Server::real(&settings)?),
    };
    let copies = if args.against.is_some() { 2 } else { 1 };
    if copies == 2 {
        bare.until_it_accepts(|| producers.sign(1))?;
    }
    let before = ends.sum()?;
    real.until_it_accepts(|| producers.sign(1))?;

    let mut accepted = 1;
    let mut is_first = false;
    let mut report = Report::default();
    let mut warm_up = WARM_UP;
    let mut both = |hooks: Hooks, connections| {
        let hooks = Arc::new(hooks);
        accepted += hooks.len();
        // The second server finds the machine as the first has left it: so each is first in turn.
        is_first = !is_first;
        let first = if is_first { Some(client::run(&real, &hooks, connections)?) } else { None };
        let bare = client::run(&bare, &hooks, connections)?;
        let real = match first {
            Some(real) => real,
            None => client::run(&real, &hooks, connections)?,
        };
        anyhow::Ok(Pair { bare, real })
    };
    for &connections in &args.connections {
        both(producers.sign(std::mem::replace(&mut warm_up, WARM_UP_AGAIN)), connections)?;
        for number in 1..=args.rounds {
            let pair = both(producers.sign(args.requests), connections)?;
            println!("{connections:>4} connections, round {number} of {}: {pair}", args.rounds);
            report.add(connections, pair);
        }
    }
    let grown = usize::try_from(ends.sum()? - before)?;
    let expected = 1 + (accepted - 1) * copies;
    ensure!(grown == expected, "{expected} webhooks were accepted and the topic grew by {grown}");
    println!("{expected} webhooks were accepted, and the topic grew by as many");
    let rss_mb = real.peak_memory_mb()?;
    real.stop()?.must_name_every_hook(accepted)?;
    println!("{}", report.line(rss_mb)?);
    Ok(())
}
