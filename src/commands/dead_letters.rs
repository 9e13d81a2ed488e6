//! `secretaria dead-letters` — events that could not be handled: look, replay, drop.

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
    /// Whole events: cause, headers and bytes as they were.
    Show(Filter),
    /// Put events back on the topics they came from; each keeps its id.
    Replay(Change),
    /// Give dead letters up for good; their events stay counted as dead-lettered.
    Drop(Change),
}

/// Which events.
#[derive(Debug, ClapArgs)]
pub struct Filter {
    /// Of one company, by domain or id; 0 for records that named none.
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
    /// DeadLettered at or after this instant, such as 2026-11-21T06:00:00Z.
    #[arg(long)]
    since: Option<Timestamp>,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Which events, and whether it is meant.
#[derive(Debug, ClapArgs)]
pub struct Change {
    #[command(flatten)]
    filter: Filter,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Looks, replays or drops.
///
/// # Errors
/// If Postgres is away or a filter names something unknown; then nothing is changed.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    let operator = operator(settings).await?;
    let db = Db::new(&settings.postgres.service_url, &settings.postgres, "dead letters")?;
    match command {
        Command::List(filter) => {
            let letters = dead_letters::list(&db, &read(&operator, &filter).await?).await?;
            for letter in &letters {
                say(line(letter))?;
            }
            say(format_args!("{} dead letters", letters.len()))?;
        }
        Command::Show(filter) => {
            let letters = dead_letters::list(&db, &read(&operator, &filter).await?).await?;
            for letter in &letters {
                show(letter)?;
            }
            if letters.is_empty() {
                say("0 dead letters")?;
            }
        }
        Command::Replay(change) => {
            let filter = read(&operator, &change.filter).await?;
            let letters = dead_letters::replay(&db, &filter, "secretaria dead-letters replay", meant(&change)).await?;
            report(&letters, &change, "replayed")?;
        }
        Command::Drop(change) => {
            let filter = read(&operator, &change.filter).await?;
            let letters = dead_letters::drop(&db, &filter, "secretaria dead-letters drop", meant(&change)).await?;
            report(&letters, &change, "dropped")?;
        }
    }
    Ok(())
}

fn meant(change: &Change) -> Run {
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

fn line(letter: &DeadLetter) -> String {
    let DeadLetter { company, processor, event, cause, detail, attempts, dead_lettered_at, .. } = letter;
    let attempts = if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    // A detail may end with the cause, or be nothing else.
    let detail = detail.strip_suffix(&format!("({cause})")).unwrap_or(detail);
    let detail = if detail == cause { "" } else { detail };
    let line =
        format!("{dead_lettered_at:.0}  company {company}  {processor}  {event}  {cause}  after {attempts}  {detail}");
    line.trim_end().to_owned()
}

fn show(letter: &DeadLetter) -> std::io::Result<()> {
    say(line(letter))?;
    say(format_args!("  lay at   {}/{}/{}", letter.topic, letter.partition, letter.offset))?;
    say(format_args!("  key      {}", String::from_utf8_lossy(letter.key.as_deref().unwrap_or_default())))?;
    for (name, value) in &letter.headers {
        say(format_args!("  header   {name}: {}", String::from_utf8_lossy(value)))?;
    }
    say(format_args!("  payload  {}\n", String::from_utf8_lossy(letter.payload.as_deref().unwrap_or_default())))
}

fn report(letters: &[DeadLetter], change: &Change, done: &str) -> std::io::Result<()> {
    for letter in letters {
        say(line(letter))?;
    }
    let would = if change.dry_run { "would be " } else { "" };
    say(format_args!("{} {would}{done}", letters.len()))
}
