//! `secretaria quota` — what a company may use and what is left of it, and whether every counter agrees with its ledger.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use platform::postgres::{Row, query};

use super::{company_named, operator, say};
use crate::Settings;

const ENTITLEMENTS: &str = "\
select feature, allowed, reason, used, reserved, limit_value, remaining, source,
  to_char(period_end at time zone (select time_zone from secretaria.companies where company_id = $1), 'YYYY-MM-DD HH24:MI')
from entitlements($1)";

const DRIFT: &str = "\
select 'a counter is the sum of its ledger' as rule,
  format('company %s %s since %s: counter %s, ledger %s', company_id, feature, period_start, counter, ledger) as detail
from verify_usage()
union all
select 'a stored decision is what plan, status and overrides say',
  format('company %s %s: %s is %s, resolved %s', company_id, feature, field, stored, resolved)
from verify_entitlements()";

/// Arguments of `quota`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The company, by domain or id; without it only the counters of all companies are checked.
    #[arg(long)]
    company: Option<String>,
}

/// Prints a company's entitlements, and every wrong counter of any company; the exit code is a failure if there is one.
///
/// # Errors
/// If Postgres is away or there is no such company.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<ExitCode> {
    let db = operator(settings).await?;
    let client = db.get().await?;
    if let Some(name) = &args.company {
        let company = company_named(&db, name).await?;
        say(format_args!(
            "{:<20} {:<7} {:>12} {:>9} {:>12} {:>12}  {:<12} {:<16}  reason",
            "feature", "allowed", "used", "reserved", "limit", "remaining", "source", "period ends"
        ))?;
        for row in query(&client, ENTITLEMENTS, &[&company.0]).await? {
            say(line(&row))?;
        }
    }
    // This reads whole tables, which may take longer than the usual statement timeout.
    client.batch_execute("set statement_timeout = 0").await?;
    let wrong = query(&client, DRIFT, &[]).await?;
    for row in &wrong {
        say(format_args!("WRONG  {}  {}", row.get::<_, &str>("rule"), row.get::<_, &str>("detail")))?;
    }
    if wrong.is_empty() {
        say("every counter is the sum of its ledger, every decision is what it is made of")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn line(row: &Row) -> String {
    let figure = |column: &str| row.get::<_, Option<i64>>(column).map_or_else(|| "-".to_owned(), |it| it.to_string());
    let allowed = if row.get("allowed") { "yes" } else { "no" };
    let (feature, source, reason): (&str, &str, &str) = (row.get("feature"), row.get("source"), row.get("reason"));
    let ends: Option<&str> = row.get("to_char");
    format!(
        "{feature:<20} {allowed:<7} {:>12} {:>9} {:>12} {:>12}  {source:<12} {:<16}  {reason}",
        figure("used"),
        figure("reserved"),
        figure("limit_value"),
        figure("remaining"),
        ends.filter(|it| !it.contains("infinity")).unwrap_or("-"),
    )
}
