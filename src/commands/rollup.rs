//! `secretaria rollup` — computes the numbers of each company's days from the lake, and compares them with the ledger.

use std::process::ExitCode;
use std::sync::Arc;

use analytics::lake::{Lake, manifest};
use analytics::{Comparison, Rollups, against_ledger, against_parts};
use clap::{Args as ClapArgs, Subcommand};
use jiff::civil::Date;
use platform::postgres::Db;
use platform::task::Stop;

use super::lake::{LimitArgs, interruptible};
use super::progress::Progress;
use super::{operator, say};
use crate::Settings;

/// The subcommands of `rollup`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compute the days whose events changed. A processor does it all the time.
    Run(LimitArgs),
    /// Compute days again: all of them, or those from and to.
    Rebuild(RebuildArgs),
    /// Compare the rollups with the ledger and with the lake; fails if anything differs.
    Verify(VerifyArgs),
}

/// Arguments of `rollup rebuild`.
#[derive(Debug, ClapArgs)]
pub struct RebuildArgs {
    /// The first UTC day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<Date>,
    /// The last UTC day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<Date>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Arguments of `rollup verify`.
#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Only with the ledger, which reads no file.
    #[arg(long)]
    ledger_only: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Runs a subcommand; the exit code is a failure if a day could not be computed, or if something differs.
///
/// # Errors
/// If Postgres or the store is away.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<ExitCode> {
    operator(settings).await?;
    let db = Db::new(&settings.postgres.service_url, &settings.postgres, "rollup")?;
    let lake = Lake::open(&settings.object_store)?;
    let with = |limits: LimitArgs| -> anyhow::Result<Rollups> {
        Ok(Rollups { lake, db: db.clone(), limits: Arc::new(limits.limits()?) })
    };
    let cancelled = interruptible();
    match command {
        Command::Run(limits) => compute(&with(limits)?, &cancelled).await,
        Command::Rebuild(args) => {
            let days = manifest::days_between(&db.get().await?, args.from, args.to).await?;
            manifest::mark(&db.get().await?, &days).await?;
            compute(&with(args.limits)?, &cancelled).await
        }
        Command::Verify(VerifyArgs { ledger_only, limits }) => {
            let depth = if ledger_only { Depth::Ledger } else { Depth::LedgerAndLake };
            compare(&with(limits)?, &db, depth, &cancelled).await
        }
    }
}

/// What the rollups are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Ledger,
    LedgerAndLake,
}

async fn compute(rollups: &Rollups, cancelled: &Stop) -> anyhow::Result<ExitCode> {
    let dirty = rollups.all_dirty().await?;
    let mut progress = Progress::new("days", dirty.len());
    let (mut events, mut changed, mut failed) = (0, 0, 0);
    for (done, &day) in dirty.iter().enumerate() {
        match rollups.compute(day, cancelled).await {
            Ok(computed) => {
                events += computed.events;
                changed += computed.changed.map_or(0, |it| it.changed);
            }
            Err(analytics::lake::Error::Cancelled) => {
                progress.end();
                say(format_args!("cancelled after {done} of {} days; what was computed stays", dirty.len()))?;
                return Ok(ExitCode::FAILURE);
            }
            Err(problem) => {
                failed += 1;
                progress.end();
                say(format_args!("FAILED {}: {:#}", day.day, anyhow::Error::from(problem)))?;
            }
        }
        progress.show(done + 1);
    }
    progress.end();
    say(format_args!(
        "days computed: {} from {events} events; days of companies changed: {changed}; days failed: {failed}",
        dirty.len() - failed
    ))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn compare(rollups: &Rollups, db: &Db, depth: Depth, cancelled: &Stop) -> anyhow::Result<ExitCode> {
    let mut differences = {
        let client = db.get().await?;
        client.batch_execute("set statement_timeout = 0").await?;
        let mut differences = against_ledger(&client).await?;
        differences.extend(against_parts(&client).await?);
        differences
    };
    let days = if depth == Depth::Ledger { Vec::new() } else { rollups.clean_days().await? };
    let mut progress = Progress::new("days", days.len());
    let (mut compared, mut dirty) = (0, 0);
    for (done, &day) in days.iter().enumerate() {
        match rollups.compare(day, cancelled).await {
            Ok(Comparison::Compared(found)) => {
                compared += 1;
                differences.extend(found);
            }
            Ok(Comparison::Dirty) => dirty += 1,
            Err(analytics::lake::Error::Cancelled) => anyhow::bail!("cancelled after {done} of {} days", days.len()),
            Err(problem) => differences.push(format!("{day}: {:#}", anyhow::Error::from(problem))),
        }
        progress.show(done + 1);
    }
    progress.end();
    for difference in &differences {
        say(format_args!("WRONG  {difference}"))?;
    }
    dirty += rollups.all_dirty().await?.len();
    if dirty > 0 {
        say(format_args!("days that wait for their rollups and may differ from the ledger until then: {dirty}"))?;
    }
    if differences.is_empty() {
        say(format_args!("the rollups are what the ledger says; days compared with the lake: {compared}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
