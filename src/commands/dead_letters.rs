//! `secretaria dead-letters` — lists, shows, replays and drops events that could not be processed.

use ::processors::dead_letters::{self, DeadLetter, Run};
use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand};
use domain::{CompanyId, EventId};
use jiff::Timestamp;
use platform::postgres::Db;

use super::{company_named, operator, say};
use crate::Settings;

/// The subcommands of `dead-letters`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One line per dead letter, oldest first.
    List(Filter),
    /// The whole records: cause, headers and payload as they were read.
    Show(Filter),
    /// Put events back on the topics they came from; each keeps its id.
    Replay(Change),
    /// Delete dead letters; their events stay counted as dead-lettered.
    Drop(Change),
}

/// Which events.
#[derive(Debug, ClapArgs)]
pub struct Filter {
    /// Of one company, by domain or id; 0: records without a readable company.
    #[arg(long)]
    company: Option<String>,
    /// Of one processor.
    #[arg(long)]
    processor: Option<String>,
    /// With this cause.
    #[arg(long)]
    cause: Option<String>,
    /// One event, by its id.
    #[arg(long)]
    event: Option<uuid::Uuid>,
    /// Dead-lettered at or after this instant, such as 2026-11-21T06:00:00Z.
    #[arg(long)]
    since: Option<Timestamp>,
    /// At most this many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Which events, and whether only to show what would be done.
#[derive(Debug, ClapArgs)]
pub struct Change {
    #[command(flatten)]
    filter: Filter,
    /// Print what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// If Postgres is away or a filter names something unknown; then nothing is changed.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    let operator = operator(settings).await?;
    let db = Db::new(&settings.postgres.service_url, &settings.postgres, "dead letters")?;
    match command {
        Command::List(filter) => {
            let found = dead_letters::list(&db, &read(&operator, &filter).await?).await?;
            for dead_letter in &found {
                say(line(dead_letter))?;
            }
            say(format_args!("{} dead letters", found.len()))?;
        }
        Command::Show(filter) => {
            let found = dead_letters::list(&db, &read(&operator, &filter).await?).await?;
            for dead_letter in &found {
                show(dead_letter)?;
            }
            if found.is_empty() {
                say("0 dead letters")?;
            }
        }
        Command::Replay(change) => {
            let filter = read(&operator, &change.filter).await?;
            let found = dead_letters::replay(&db, &filter, "secretaria dead-letters replay", run_mode(&change)).await?;
            report(&found, &change, "replayed")?;
        }
        Command::Drop(change) => {
            let filter = read(&operator, &change.filter).await?;
            let found = dead_letters::drop(&db, &filter, "secretaria dead-letters drop", run_mode(&change)).await?;
            report(&found, &change, "dropped")?;
        }
    }
    Ok(())
}

fn run_mode(change: &Change) -> Run {
    if change.dry_run { Run::Dry } else { Run::Real }
}

async fn read(operator: &Db, filter: &Filter) -> anyhow::Result<dead_letters::Filter> {
    let company = match filter.company.as_deref() {
        None => None,
        Some("0") => Some(CompanyId::NONE),
        Some(name) => Some(company_named(operator, name).await?),
    };
    let named = |name: &str| crate::processors::named(name).map(|it| it.name);
    let processor = match filter.processor.as_deref() {
        None => None,
        Some(name) => {
            Some(named(name).with_context(|| format!("no processor `{name}`: reply, delivery, metering, alerts"))?)
        }
    };
    Ok(dead_letters::Filter {
        company,
        processor,
        cause: filter.cause.clone(),
        event: filter.event.map(EventId),
        since: filter.since,
        limit: filter.limit,
    })
}

fn line(dead_letter: &DeadLetter) -> String {
    let DeadLetter { company, processor, event, cause, detail, attempts, dead_lettered_at, .. } = dead_letter;
    let attempts = if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    // The detail may end with the cause, or be the cause alone; it is printed once.
    let detail = detail.strip_suffix(&format!("({cause})")).unwrap_or(detail);
    let detail = if detail == cause { "" } else { detail };
    let line =
        format!("{dead_lettered_at:.0}  company {company}  {processor}  {event}  {cause}  after {attempts}  {detail}");
    line.trim_end().to_owned()
}

fn show(dead_letter: &DeadLetter) -> std::io::Result<()> {
    say(line(dead_letter))?;
    say(format_args!("  record   {}/{}/{}", dead_letter.topic, dead_letter.partition, dead_letter.offset))?;
    say(format_args!("  key      {}", String::from_utf8_lossy(dead_letter.key.as_deref().unwrap_or_default())))?;
    for (name, value) in &dead_letter.headers {
        say(format_args!("  header   {name}: {}", String::from_utf8_lossy(value)))?;
    }
    say(format_args!("  payload  {}\n", String::from_utf8_lossy(dead_letter.payload.as_deref().unwrap_or_default())))
}

fn report(found: &[DeadLetter], change: &Change, done: &str) -> std::io::Result<()> {
    for dead_letter in found {
        say(line(dead_letter))?;
    }
    let would = if change.dry_run { "would be " } else { "" };
    say(format_args!("{} {would}{done}", found.len()))
}
