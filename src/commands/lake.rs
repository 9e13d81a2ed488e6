//! `secretaria lake` — shows, verifies and queries the event lake.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use analytics::lake::engine::{self, Limits};
use analytics::lake::export::{self, Format};
use analytics::lake::manifest::{self, ManifestFile};
use analytics::lake::{Lake, compaction, query, verify};
use clap::{Args as ClapArgs, Subcommand};
use platform::clock;
use platform::postgres::{Db, query as rows_of};
use platform::task::{self, Stop};

use super::progress::Progress;
use super::whole_file::WholeFile;
use super::{operator, say};
use crate::Settings;

/// The subcommands of `lake`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How much the lake holds, by month, and what is not computed yet.
    Status,
    /// Compare every file with the manifest: missing, damaged and orphaned files.
    Verify(VerifyArgs),
    /// Merge the small files of every day into larger ones.
    Compact(LimitArgs),
    /// Run one select over `events`, where each event is once, or `records`, as they were archived.
    Sql(SqlArgs),
}

/// Arguments of `lake verify`.
#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Delete orphans: files that no row of the manifest has named for an hour.
    #[arg(long)]
    delete_orphans: bool,
}

/// Arguments of `lake sql`.
#[derive(Debug, ClapArgs)]
pub struct SqlArgs {
    /// The query, for example: select kind, count(*) from events group by kind
    select: String,
    /// How the rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where they are written to, as a whole or not at all; without it, standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The most rows of a table.
    #[arg(long, default_value_t = 1_000, value_name = "ROWS")]
    limit: usize,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What a query of a command may use.
#[derive(Debug, ClapArgs)]
pub struct LimitArgs {
    /// How long it may take, in seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The memory it may use before it spills to disk, in MB.
    #[arg(long, value_name = "MB")]
    memory: Option<usize>,
    /// How many threads work on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The folder that it spills to; without it, the system's folder for temporary files.
    #[arg(long, value_name = "FOLDER")]
    spill_dir: Option<PathBuf>,
}

impl LimitArgs {
    pub(super) fn limits(self) -> anyhow::Result<Limits> {
        let usual = Limits::default();
        let limits = Limits {
            timeout_s: self.timeout.unwrap_or(usual.timeout_s),
            memory_mb: self.memory.unwrap_or(usual.memory_mb),
            threads: self.threads.unwrap_or(usual.threads),
            spill_dir: self.spill_dir,
            ..usual
        };
        limits.validate("limits")?;
        Ok(limits)
    }
}

/// Runs a subcommand; the exit code is a failure if a file is missing or damaged.
///
/// # Errors
/// If Postgres or the store is away, or the query is refused.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<ExitCode> {
    let db = operator(settings).await?;
    match command {
        Command::Status => status(&db).await,
        Command::Verify(args) => check(settings, &db, &args).await,
        Command::Compact(limits) => compact(settings, &limits.limits()?).await,
        Command::Sql(args) => sql(settings, &db, args).await,
    }
}

const MONTHS: &str = "\
select to_char(day, 'YYYY-MM') as month, count(distinct day) as days, count(*) as files, sum(events)::bigint as events,
  sum(bytes)::bigint as bytes
from secretaria.lake_files
where replaced_at is null
group by 1
order by 1";

const DIRTY: &str = "\
select count(*) as days, min(day)::text as first, max(day)::text as last,
  floor(extract(epoch from now() - min(marked_at)))::bigint as seconds
from secretaria.rollup_utc_days
where computed_mark < mark";

async fn status(db: &Db) -> anyhow::Result<ExitCode> {
    let client = db.get().await?;
    say(format_args!("{:<8} {:>5} {:>7} {:>14} {:>10} {:>8}", "month", "days", "files", "events", "MB", "B/event"))?;
    let (mut events, mut bytes) = (0, 0);
    for row in rows_of(&client, MONTHS, &[]).await? {
        let (month, days, files): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let (of_month, size): (i64, i64) = (row.get(3), row.get(4));
        say(format_args!(
            "{month:<8} {days:>5} {files:>7} {of_month:>14} {:>10.1} {:>8.1}",
            size as f64 / 1e6,
            size as f64 / of_month.max(1) as f64
        ))?;
        (events, bytes) = (events + of_month, bytes + size);
    }
    say(format_args!("{events} events in {:.1} MB", bytes as f64 / 1e6))?;
    for row in rows_of(&client, DIRTY, &[]).await? {
        let days: i64 = row.get(0);
        match (row.get::<_, Option<String>>(1), row.get::<_, Option<String>>(2), row.get::<_, Option<i64>>(3)) {
            (Some(first), Some(last), Some(seconds)) => say(format_args!(
                "{days} days from {first} to {last} wait for their rollups, the oldest mark for {seconds} s"
            ))?,
            _ => say("every day's rollups are computed")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn files(db: &Db) -> anyhow::Result<Vec<ManifestFile>> {
    Ok(manifest::all_files(&db.get().await?).await?)
}

async fn check(settings: &Settings, db: &Db, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let lake = Lake::open(&settings.object_store)?;
    let manifest = files(db).await?;
    let mut progress = Progress::new("files", manifest.len());
    let findings = verify::verify(&lake, &manifest, clock::now(), |done| progress.show(done)).await?;
    progress.end();
    for problem in &findings.problems {
        say(format_args!("WRONG  {problem}"))?;
    }
    for orphan in &findings.orphans {
        let verb = if args.delete_orphans { "deleted" } else { "orphan" };
        if args.delete_orphans {
            lake.delete(&orphan.path).await?;
        }
        say(format_args!("{verb:<7} {} ({} bytes, since {})", orphan.path, orphan.bytes, orphan.modified_at))?;
    }
    say(format_args!(
        "{} files intact, {} missing or damaged, {} orphans, {} younger than an hour and not in the manifest",
        findings.intact,
        findings.problems.len(),
        findings.orphans.len(),
        findings.pending
    ))?;
    Ok(if findings.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn compact(settings: &Settings, limits: &Limits) -> anyhow::Result<ExitCode> {
    let db = Db::new(&settings.postgres.service_url, &settings.postgres, "lake")?;
    let lake = Lake::open(&settings.object_store)?;
    let days = manifest::days_between(&db.get().await?, None, None).await?;
    let cancelled = interruptible();
    let mut progress = Progress::new("days", days.len());
    let mut replaced = 0;
    for (done, &day) in days.iter().enumerate() {
        replaced += compaction::compact(&lake, &db, day, 2, limits, &cancelled).await?;
        progress.show(done + 1);
    }
    progress.end();
    let deleted = compaction::delete_replaced(&lake, &db).await?;
    say(format_args!("files merged: {replaced}; files deleted that were replaced an hour ago: {deleted}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Cancelled when the command is interrupted.
pub(super) fn interruptible() -> Stop {
    let cancelled = Stop::new();
    task::spawn("interrupt", {
        let cancelled = cancelled.clone();
        async move {
            task::shutdown_signal().await;
            cancelled.cancel();
        }
    });
    cancelled
}

async fn sql(settings: &Settings, db: &Db, args: SqlArgs) -> anyhow::Result<ExitCode> {
    let limits = args.limits.limits()?;
    let lake = Lake::open(&settings.object_store)?;
    let current = files(db).await?.into_iter().filter(|it| !it.is_replaced).collect();
    let session = query::session(&lake, current, &limits).await?;
    let rows = query::select(&session, &args.select).await?;
    let cancelled = interruptible();
    let limit = (args.format == Format::Table).then_some(args.limit);
    let mut whole = args.output.as_deref().map(WholeFile::begin).transpose()?;
    let out: Box<dyn Write + Send> = match &mut whole {
        Some(whole) => Box::new(whole.file()?),
        None => Box::new(io::stdout()),
    };
    let mut writer = export::Writer::new(args.format, rows.schema(), BufWriter::new(out), limit)?;
    let mut progress = args.output.is_some().then(|| Progress::counting("rows", Duration::from_millis(200)));
    engine::drain(rows, &limits, &cancelled, |batch| {
        writer.write(&batch)?;
        if let Some(progress) = &mut progress {
            progress.show(writer.rows());
        }
        Ok(())
    })
    .await?;
    let (written, left_out) = writer.finish()?;
    if let Some(whole) = whole {
        whole.put_in_place()?;
    }
    if let Some(mut progress) = progress {
        progress.end();
    }
    if left_out > 0 {
        eprintln!("{written} rows shown, {left_out} left out: --limit shows more, --format csv all");
    }
    Ok(ExitCode::SUCCESS)
}
