//! How fast the engine behind a reply is: turns a second, and the job queue alone, beside peers.
//!
//! Kafka, Postgres, the engine, the model and the load share this machine's cores, so ratios are the result. The
//! real binary and the peers are processes of their own; a turn counts when its reply is committed, with what it used
//! and what is to be published. Ours and a peer's follow one another within a round, and the medians of the rounds are
//! reported.
//!
//! Needs the stack of `dev/bench.sh` and its variables. One turn too few, too many or out of order ends the benchmark.
//! The last line printed is JSON.

mod claims;
mod jobs;
mod load;
mod model;
mod peers;
mod process;
mod quiet;
mod report;
mod site;
mod turns;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use secretaria::Settings;
use serde_json::{Value, json};

use claims::Waiting;
use peers::Graphile;
use report::Report;
use site::Site;
use turns::{Engine, Span};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The engine beside its peers.
#[derive(Parser)]
struct Args {
    /// Only these parts, separated by commas.
    #[arg(long, env = "SECRETARIA_BENCH_ONLY", value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of every part; medians are reported.
    #[arg(long, env = "SECRETARIA_BENCH_ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Seconds that are measured of turns; a JVM warms up for longer.
    #[arg(long, env = "SECRETARIA_BENCH_SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seconds of turns before they are measured.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Numbers of calls in flight at once.
    #[arg(long, value_delimiter = ',', default_value = "128,512")]
    windows: Vec<usize>,
    /// Contacts that write.
    #[arg(long, default_value_t = 2_000)]
    contacts: usize,
    /// Companies that they write to.
    #[arg(long, default_value_t = 50)]
    companies: usize,
    /// No-op jobs of a round.
    #[arg(long, env = "SECRETARIA_BENCH_JOBS", default_value_t = 20_000)]
    jobs: usize,
    /// Jobs that wait while others are claimed.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: usize,
    /// Messages of a flood.
    #[arg(long, default_value_t = quiet::FLOOD)]
    flood: usize,
    /// The broker's process, so that its CPU can be reported separately.
    #[arg(long, env = "SECRETARIA_KAFKA_PID")]
    kafka_pid: Option<u32>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Turns a second.
    Turns,
    /// Turns a second of Confluent's parallel consumer, and ours beside it.
    ParallelConsumer,
    /// No-op jobs through our queue and through graphile_worker.
    Jobs,
    /// A claim beside a million jobs.
    Claims,
    /// A quiet company beside a flood.
    Quiet,
    /// CPU per turn with many companies and with few.
    Companies,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Args::parse()).await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench engine: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<Value> {
    let settings = Settings::load(None)?;
    let asked = |part| args.only.is_empty() || args.only.contains(&part);
    let mut report = Report::default();
    if asked(Part::Turns) || asked(Part::ParallelConsumer) {
        turns_a_second(args, &settings, asked(Part::ParallelConsumer), &mut report).await?;
    }
    if asked(Part::Jobs) {
        jobs_a_second(args, &settings, &mut report).await?;
    }
    if asked(Part::Claims) {
        claim_times(args, &settings, &mut report).await?;
    }
    if asked(Part::Quiet) {
        quiet_beside_flood(args, &settings, &mut report).await?;
    }
    if asked(Part::Companies) {
        many_companies(args, &settings, &mut report).await?;
    }
    let mut line = report.medians();
    line.insert("rounds".into(), json!(args.rounds));
    line.insert("cores".into(), json!(std::thread::available_parallelism()?.get()));
    Ok(line.into())
}

fn span(args: &Args, window: usize, engine: Engine) -> Span {
    let patient = if engine == Engine::Ours { 1 } else { 2 };
    Span { window, warm_up: Duration::from_secs(args.warm_up * patient), measured: Duration::from_secs(args.seconds) }
}

async fn turns_a_second(args: &Args, base: &Settings, peer: bool, report: &mut Report) -> anyhow::Result<()> {
    let people = (args.companies, args.contacts);
    let ours = turns::Bench::new(Site::create(base, "ours", 1).await?, Engine::Ours, people, args.kafka_pid).await?;
    let peer = match peer {
        true => {
            let site = Site::create(base, "peer", 1).await?;
            Some(turns::Bench::new(site, Engine::ParallelConsumer, people, args.kafka_pid).await?)
        }
        false => None,
    };
    for number in 1..=args.rounds {
        for &window in &args.windows {
            let round = ours.round(span(args, window, Engine::Ours)).await?;
            println!("turns, {window} at once, round {number} of {}: {round}", args.rounds);
            note(report, window, &round);
            let Some(peer) = &peer else { continue };
            let other = peer.round(span(args, window, Engine::ParallelConsumer)).await?;
            println!("  parallel consumer, {window} at once: {other}");
            if let Some(name) = named(window, ["vs_parallel_consumer_128", "vs_parallel_consumer_512"]) {
                report.add(name, round.per_s / other.per_s);
            }
            if let Some(name) = named(window, ["parallel_consumer_128_per_s", "parallel_consumer_512_per_s"]) {
                report.add(name, other.per_s);
            }
        }
    }
    Ok(())
}

fn named(window: usize, names: [&'static str; 2]) -> Option<&'static str> {
    match window {
        128 => Some(names[0]),
        512 => Some(names[1]),
        _ => None,
    }
}

fn note(report: &mut Report, window: usize, round: &turns::Round) {
    let ideal = window as f64 / model::TAKES.as_secs_f64();
    match window {
        128 => report.add("cap128_ratio", round.per_s / ideal),
        512 => {
            report.add("cap512_per_s", round.per_s);
            report.add("cap512_cpu_pct", round.machine_pct());
            report.add("cap512_cpu_us_per_turn", round.cpu_us_per_turn());
            report.add("rss_mb", round.rss_mb);
        }
        _ => {}
    }
}

async fn jobs_a_second(args: &Args, base: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let site = Site::create(base, "jobs", 1).await?;
    // Plans and the peer's tables are there before anything is measured.
    jobs::per_s(&site, 2_000.min(args.jobs)).await?;
    peers::graphile_per_s(&site, Graphile::Batching, 1_000).await?;
    for number in 1..=args.rounds {
        let ours = jobs::per_s(&site, args.jobs).await?;
        let plain = peers::graphile_per_s(&site, Graphile::Plain, args.jobs).await?;
        let batching = peers::graphile_per_s(&site, Graphile::Batching, args.jobs).await?;
        println!(
            "jobs, round {number} of {}: {ours:.0}/s; graphile_worker {plain:.0}/s, batching {batching:.0}/s",
            args.rounds
        );
        report.add("queue_jobs_per_s", ours);
        report.add("queue_vs_graphile", ours / plain);
        report.add("queue_vs_graphile_batching", ours / batching);
    }
    Ok(())
}

async fn claim_times(args: &Args, base: &Settings, report: &mut Report) -> anyhow::Result<()> {
    const CLAIMS: usize = 200;
    let site = Site::create(base, "claims", 1).await?;
    for (waiting, name) in
        [(Waiting::NotDue, "claim_ms_million_waiting"), (Waiting::ReadyOfAnother, "claim_ms_million_ready_of_another")]
    {
        let rounds = usize::try_from(args.rounds)?;
        claims::fill(&site, waiting, args.waiting, CLAIMS * rounds).await?;
        for number in 1..=args.rounds {
            let median = claims::median_ms(&site, CLAIMS).await?;
            println!("claims, {waiting:?}, round {number} of {}: {median:.2} ms", args.rounds);
            report.add(name, median);
        }
    }
    Ok(())
}

async fn quiet_beside_flood(args: &Args, base: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let bench = quiet::Bench::new(Site::create(base, "quiet", 12).await?, 512, args.flood).await?;
    for number in 1..=args.rounds {
        let round = bench.round(Duration::from_secs(args.seconds * 2)).await?;
        println!(
            "quiet company, round {number} of {}: p99 {:.0} ms beside a flood, {:.0} ms alone",
            args.rounds, round.beside_ms, round.alone_ms
        );
        report.add("quiet_ratio", round.beside_ms / round.alone_ms);
        report.add("quiet_p99_ms", round.beside_ms);
    }
    Ok(())
}

async fn many_companies(args: &Args, base: &Settings, report: &mut Report) -> anyhow::Result<()> {
    const MANY: usize = 10_000;
    let mut sites = Vec::new();
    for (name, companies) in [("few", 10), ("many", MANY)] {
        let site = Site::create(base, name, 1).await?;
        sites.push(turns::Bench::new(site, Engine::Ours, (companies, MANY), args.kafka_pid).await?);
    }
    for number in 1..=args.rounds {
        let mut us = Vec::new();
        for bench in &sites {
            us.push(bench.round(span(args, 128, Engine::Ours)).await?);
        }
        let (few, many) = (us[0], us[1]);
        println!("companies, round {number} of {}:\n  10: {few}\n  {MANY}: {many}", args.rounds);
        report.add("companies_cpu_ratio", many.cpu_us_per_turn() / few.cpu_us_per_turn());
        report.add("companies_10_cpu_us", few.cpu_us_per_turn());
        report.add("companies_10000_cpu_us", many.cpu_us_per_turn());
    }
    Ok(())
}
