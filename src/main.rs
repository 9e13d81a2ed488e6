//! The one binary: every role and every tool is a subcommand; `--help` lists them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use secretaria::commands::{
    self, company, config, conservation, dead_letters, follow, hook, lake, migrate, openapi, queue, quota, rebind,
    report, rollup, token,
};
use secretaria::{Settings, serve};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The pipeline behind a virtual secretary on WhatsApp: signed webhooks in, replies out, everything accounted for.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    /// Settings file (TOML); variables named SECRETARIA__SECTION__KEY win over it.
    #[arg(long, global = true, env = "SECRETARIA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the database, the topics and the keys to what this build needs.
    Migrate(migrate::Args),
    /// Serve POST /webhook/whaticket: verify webhooks and publish them to Kafka.
    Ingest,
    /// Run the processors: reply, delivery, metering, alerts, archive, rollups and the outbox relay.
    Process(serve::ProcessArgs),
    /// Serve the HTTP API: /api/usage, /api/conversations.
    Api,
    /// Everything above in one process, for a laptop and for tests.
    All,
    /// Print the settings in force, secrets redacted.
    Config,
    /// Print the OpenAPI document of every route, as GET /api/openapi.json serves it.
    Openapi,
    /// Issue a bearer token for the API.
    Token(token::Args),
    /// Add, list and change companies.
    #[command(subcommand)]
    Company(company::Command),
    /// Sign a webhook, or sign and send one.
    #[command(subcommand)]
    Hook(hook::Command),
    /// Print a company's conversations as they happen.
    Follow(follow::Args),
    /// List, show, replay and drop dead letters.
    #[command(subcommand, alias = "parked")]
    DeadLetters(dead_letters::Command),
    /// Show the job queues, pause them, and cancel, retry or drop jobs.
    #[command(subcommand)]
    Queue(queue::Command),
    /// Compare accepted events with their outcomes; fails if anything was lost or done twice.
    Conservation(conservation::Args),
    /// Show what a company may use and what is left of its plan; fails if a counter is not the sum of its ledger.
    Quota(quota::Args),
    /// Show, verify and query the event lake: what is counted of every event, as Parquet files.
    #[command(subcommand)]
    Lake(lake::Command),
    /// Compute the numbers of each company's days from the lake, and compare them with the ledger.
    #[command(subcommand)]
    Rollup(rollup::Command),
    /// Write a company's report to a file: CSV or XLSX.
    Report(report::Args),
    /// Make policies and triggers call the extension's functions, or those in PL/pgSQL again.
    Rebind(rebind::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(code) => code,
        Err(problem) if commands::is_broken_pipe(&problem) => ExitCode::SUCCESS,
        Err(problem) => {
            // The whole chain, once, here.
            eprintln!("secretaria: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(cli.config.as_deref())?;
    match cli.command {
        Command::Migrate(args) => migrate::run(&settings, &args).await?,
        Command::Ingest => serve::run(settings, serve::Roles::ingest()).await?,
        Command::Process(args) => serve::run(settings, serve::Roles::process(&args)).await?,
        Command::Api => serve::run(settings, serve::Roles::api()).await?,
        Command::All => serve::run(settings, serve::Roles::all()).await?,
        Command::Config => config::print(&settings)?,
        Command::Openapi => openapi::print()?,
        Command::Token(args) => token::run(&settings, &args).await?,
        Command::Company(command) => company::run(&settings, command).await?,
        Command::Hook(command) => return hook::run(&settings, command).await,
        Command::Follow(args) => follow::run(&settings, &args).await?,
        Command::DeadLetters(command) => dead_letters::run(&settings, command).await?,
        Command::Queue(command) => queue::run(&settings, command).await?,
        Command::Conservation(args) => return conservation::run(&settings, &args).await,
        Command::Quota(args) => return quota::run(&settings, &args).await,
        Command::Lake(command) => return lake::run(&settings, command).await,
        Command::Rollup(command) => return rollup::run(&settings, command).await,
        Command::Report(args) => report::run(&settings, &args).await?,
        Command::Rebind(args) => rebind::run(&settings, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
