//! What a check and an increment cost inside Postgres, beside the same functions in PL/pgSQL and beside no work at all.
//!
//! All variants run in one process of Postgres, on the same rows, in turns; those of the checks change direction from
//! round to round. Variants are compared within each round, and the medians of that are reported: a machine that is
//! shared may be slower a minute later.
//! *twin* is the PL/pgSQL function, *waterfall* resolves plan, override and usage at each call, *noop* is a function
//! of the extension that returns a constant of the same type.
//!
//! Needs the stack of `dev/bench.sh` and its variables. Without the extension its variants are left out, and the line
//! says so. The last line printed is JSON.

mod cpu;
mod pgbench;
mod rows;
mod writes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use platform::task;
use secretaria::Settings;
use secretaria::commands::migrate;
use serde_json::{Map, Value, json};
use tokio_postgres::{Client, NoTls};

/// Checks and increments, variant against variant.
#[derive(Parser)]
struct Args {
    /// Rounds; medians are reported.
    #[arg(long, env = "SECRETARIA_BENCH_ROUNDS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Seconds that are measured of each pgbench run.
    #[arg(long, env = "SECRETARIA_BENCH_SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Companies, each with twenty features.
    #[arg(long, env = "SECRETARIA_BENCH_COMPANIES", default_value_t = 10_000)]
    companies: u32,
    /// Clients of pgbench.
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// The seed of its random keys.
    #[arg(long, default_value_t = 42)]
    seed: u32,
    /// The program `pgbench` of the server's version.
    #[arg(long, env = "SECRETARIA_PGBENCH", default_value = "pgbench")]
    pgbench: PathBuf,
    /// The folder of the server's socket: what is measured is the server, not the way to it.
    #[arg(long, env = "SECRETARIA_PG_SOCKET")]
    socket: Option<PathBuf>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Figures by name, one per round.
type Figures = BTreeMap<&'static str, Vec<f64>>;

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Args::parse()).await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench quota: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<Value> {
    ensure!((100..=100_000).contains(&args.companies), "--companies must be from 100 to 100000");
    let settings = Settings::load(None)?;
    let url = settings.postgres.owner_url.expose();
    let local = local(url, args.socket.as_deref())?;
    api::keys::create_missing(&settings.keys.dir)?;
    migrate::database(&settings).await.context("is this dev/bench.sh quota?")?;
    let client = connect(url).await?;
    let flush_ms = rows::flush_latency_ms()?;
    let has_extension = rows::make(&client, args.companies).await?;
    if !has_extension {
        println!("the extension is not installed: its variants are left out");
    }

    let schema = if has_extension { "secretaria" } else { "secretaria_reference" };
    let (mut tps, mut cpu, mut writes) = (Figures::new(), Figures::new(), Figures::new());
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        writes::reset(&client, args.companies).await?;
        let mut checks: Vec<_> = pgbench::CHECKS.iter().filter(|it| has_extension || !it.of_extension).collect();
        if round % 2 == 0 {
            checks.reverse();
        }
        for variant in checks {
            let figure = pgbench::run(&local, variant, args)?;
            println!("  {:<16} {figure:>9.0} tps", variant.name);
            tps.entry(variant.name).or_default().push(figure);
        }
        for variant in cpu::CALLS.iter().filter(|it| has_extension || !it.of_extension) {
            let figure = cpu::per_call_us(&client, variant).await?;
            println!("  {:<16} {figure:>9.2} CPU µs per call", variant.name);
            cpu.entry(variant.name).or_default().push(figure);
        }
        writes::measure(&client, &local, schema, args, &mut writes).await?;
    }

    let mut line = ratios(&tps, &cpu, &writes);
    line.insert("flush_ms".into(), json!(rounded(flush_ms)));
    for (name, value) in
        [("clients", args.clients), ("threads", pgbench::THREADS), ("seed", args.seed), ("rounds", args.rounds)]
    {
        line.insert(name.into(), json!(value));
    }
    line.insert("cores".into(), json!(std::thread::available_parallelism()?.get()));
    Ok(line.into())
}

/// What the figures come to: one over another within each round, and medians.
fn ratios(tps: &Figures, cpu: &Figures, writes: &Figures) -> Map<String, Value> {
    let mut line = Map::new();
    let ratio = |figures: &Figures, over: &str, under: &str| {
        let rounds = figures.get(over)?.iter().zip(figures.get(under)?);
        Some(rounded(median(&rounds.map(|(over, under)| over / under).collect::<Vec<_>>())))
    };
    for (name, over, under) in [
        ("check_vs_noop", "check", "check_noop"),
        ("has_vs_noop", "has", "has_noop"),
        ("check_vs_waterfall", "check", "check_waterfall"),
        ("check_vs_twin", "check", "check_twin"),
        ("has_vs_twin", "has", "has_twin"),
        ("twin_vs_waterfall", "check_twin", "check_waterfall"),
    ] {
        line.extend(ratio(tps, over, under).map(|it| (name.to_owned(), json!(it))));
    }
    for (name, over, under) in [("check_cpu_vs_twin", "check", "check_twin"), ("has_cpu_vs_twin", "has", "has_twin")] {
        line.extend(ratio(cpu, over, under).map(|it| (name.to_owned(), json!(it))));
    }
    for (name, over, under) in [
        ("hot_vs_twin", "hot", "hot_twin"),
        ("hot_vs_spread", "hot", "spread"),
        ("spread_vs_twin", "spread", "spread_twin"),
        ("bulk_vs_single", "bulk", "single"),
    ] {
        line.extend(ratio(writes, over, under).map(|it| (name.to_owned(), json!(it))));
    }
    line.extend(writes.get("bulk").map(|it| ("bulk_events_per_s".to_owned(), json!(median(it).round()))));
    let medians = |figures: &Figures| -> Map<String, Value> {
        figures.iter().map(|(name, rounds)| ((*name).to_owned(), json!(rounded(median(rounds))))).collect()
    };
    line.insert("tps".into(), medians(tps).into());
    line.insert("cpu_us".into(), medians(cpu).into());
    line.insert("increments_per_s".into(), medians(writes).into());
    line
}

/// The same database by its socket, for pgbench, or as it was where there is none. Further parameters begin with `&`.
fn local(url: &str, socket: Option<&Path>) -> anyhow::Result<String> {
    let Some(socket) = socket else { return Ok(format!("{url}?application_name=bench")) };
    let config: tokio_postgres::Config = url.parse()?;
    let port = config.get_ports().first().context("the address has no port")?;
    let (user, database) = (config.get_user().unwrap_or("postgres"), config.get_dbname().unwrap_or("postgres"));
    let folder = socket.to_str().context("the socket's folder is no text")?.replace('/', "%2F");
    Ok(format!("postgres://{user}@/{database}?host={folder}&port={port}"))
}

/// A connection of the superuser.
async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    task::spawn("bench connection", connection);
    Ok(client)
}

/// The middle one; of two middle ones the upper.
fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}
