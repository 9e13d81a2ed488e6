//! `secretaria follow` — prints a company's messages as they are stored.

use std::time::Duration;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use platform::postgres::{Row, query};
use platform::task;

use super::{company_named, operator, say};
use crate::Settings;

/// Arguments of `follow`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The company, by domain or id.
    #[arg(long)]
    company: String,
    /// How many of the latest messages to begin with.
    #[arg(long, default_value_t = 20)]
    last: u16,
    /// Print those and exit.
    #[arg(long)]
    once: bool,
}

const POLL_INTERVAL: Duration = Duration::from_millis(400);
/// How many messages one poll reads at most.
const MAX_PER_POLL: i64 = 500;

/// Prints until interrupted.
///
/// # Errors
/// If the company is unknown or Postgres goes away.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<()> {
    let db = operator(settings).await?;
    let company = company_named(&db, &args.company).await?;
    let interrupted = task::shutdown_signal();
    tokio::pin!(interrupted);
    let mut since = Timestamp::UNIX_EPOCH;
    let mut seen = std::collections::HashSet::new();
    let mut limit = i64::from(args.last);
    loop {
        let rows = query(
            &db.get().await?,
            "select * from (
               select g.message_id, g.stored_at, g.direction, g.body, v.send_to, p.name, c.time_zone, t.outcome
               from secretaria.messages g
               join secretaria.conversations v using (company_id, conversation_id)
               join secretaria.contacts p using (company_id, contact_id)
               join secretaria.companies c using (company_id)
               join secretaria.turns t using (company_id, turn_id)
               where g.company_id = $1 and g.stored_at >= $2
               order by g.stored_at desc, g.position desc
               limit $3) newest
             order by stored_at, message_id",
            &[&company.0, &since, &limit],
        )
        .await?;
        // Transactions commit out of order, so each poll goes back five seconds; what it reads again is printed once.
        for row in &rows {
            if seen.insert(row.get::<_, uuid::Uuid>(0)) {
                say(line(row))?;
            }
        }
        if args.once {
            return Ok(());
        }
        let newest = rows.iter().map(|row| row.get::<_, Timestamp>(1)).max();
        since = newest.map_or(since, |at| at - Duration::from_secs(5));
        limit = MAX_PER_POLL;
        tokio::select! {
            () = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

fn line(row: &Row) -> String {
    let zone = TimeZone::get(row.get(6)).unwrap_or(TimeZone::UTC);
    let at = row.get::<_, Timestamp>(1).to_zoned(zone);
    let to: &str = row.get(4);
    let who = row.get::<_, Option<&str>>(5).unwrap_or("contact");
    let last: String = to.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
    let arrow = if row.get::<_, &str>(2) == "in" { "→" } else { "←" };
    let note = match (arrow, row.get::<_, Option<&str>>(7)) {
        ("←", Some("fallback")) => "  (fallback)",
        _ => "",
    };
    format!("{}  {who} …{last}  {arrow}  {}{note}", at.strftime("%H:%M:%S"), row.get::<_, &str>(3))
}
