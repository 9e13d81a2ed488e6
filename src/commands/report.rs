//! `secretaria report` — writes a company's report to a file.

use std::io::Write;
use std::path::PathBuf;

use analytics::reports::{Format, Report};
use anyhow::Context;
use clap::Args as ClapArgs;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use platform::clock;
use platform::postgres::query;

use super::whole_file::WholeFile;
use super::{company_named, operator, say};
use crate::Settings;

/// Arguments of `report`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The company, by domain or id.
    #[arg(long)]
    company: String,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Xlsx)]
    format: Format,
    /// The first day; without it, thirty days before the last.
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<Date>,
    /// The last day, included; without it, today where the company is.
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<Date>,
    /// The file; without it, one in `reports` that is named after the company and the days.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the file and says what is in it.
///
/// # Errors
/// If there is no such company, the span is refused, or the file cannot be written.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<()> {
    let db = operator(settings).await?;
    let company = company_named(&db, &args.company).await?;
    let mut client = db.get().await?;
    let level = tokio_postgres::IsolationLevel::RepeatableRead;
    let tx = client.build_transaction().isolation_level(level).read_only(true).start().await?;
    let sql = "select time_zone from secretaria.companies where company_id = $1";
    let rows = query(&tx, sql, &[&company.0]).await?;
    let zone = rows.first().map_or("UTC", |it| it.get(0));
    let now = clock::now();
    let today = now.to_zoned(TimeZone::get(zone)?).date();
    let to = args.to.unwrap_or(today);
    let from = args.from.unwrap_or(to.saturating_sub(29.days()));
    let report = Report::read(&tx, company, (from, to), now).await?;
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from("reports").join(report.file_name(args.format)));
    let whole = WholeFile::begin(&file)?;
    whole
        .file()?
        .write_all(&report.write(args.format)?)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    whole.put_in_place()?;
    let total = &report.total;
    say(format_args!("{}", file.display()))?;
    say(format_args!(
        "{} ({}), {from} to {to} in {}, {}: days with events {}, messages in {}, out {}, tokens {} and {}, cost USD {}.{:06}",
        report.name,
        report.domain,
        report.time_zone,
        if report.is_final { "final" } else { "not final" },
        report.rows(),
        total.messages_in,
        total.messages_out,
        total.tokens_in,
        total.tokens_out,
        total.cost_usd_micros / 1_000_000,
        total.cost_usd_micros % 1_000_000,
    ))?;
    Ok(())
}
