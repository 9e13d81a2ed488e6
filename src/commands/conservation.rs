//! `secretaria conservation` — accepted = done + ignored + dead-lettered + in flight, per company and processor, and the
//! checks in `sql/checks/`: queries that return a row for everything that was lost or done twice.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args as ClapArgs;
use platform::postgres::{GenericClient, query};

use super::{operator, say};
use crate::{Settings, processors};

const TABLE: &str = include_str!("../../sql/conservation_table.sql");

macro_rules! checks {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../sql/checks/", $name, ".sql")))),*]
    };
}

/// The checks by name: each is a file with one query that returns a row for each violation. What they check holds between
/// any two transactions, so they may run at any time and in any order.
pub const CHECKS: &[(&str, &str)] = &checks![
    "alerts_end_as_recorded",
    "alerts_in_flight_have_open_webhooks",
    "archived_records_are_in_files",
    "dead_lettered_events_have_dead_letters",
    "deliveries_end_as_recorded",
    "deliveries_have_jobs",
    "deliveries_in_flight_are_open",
    "jobs_and_their_states_agree",
    "jobs_are_in_one_state",
    "lanes_have_one_head",
    "messages_done_have_ended_turns",
    "messages_in_flight_have_open_turns",
    "new_records_have_outcomes",
    "offsets_are_counted",
    "ranges_count_every_offset",
    "ranges_follow_one_another",
    "records_are_read_before_they_are_dropped",
    "records_read_are_in_the_log",
    "replies_are_booked",
    "replies_are_published_once",
    "sends_are_repeated_only_after_failures",
    "turns_have_jobs",
    "usage_totals_are_sums_of_the_ledger",
    "webhooks_have_jobs",
];

/// Arguments of `conservation`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Print only violations, no table.
    #[arg(long)]
    quiet: bool,
}

/// Prints the table and the violations; the exit code is a failure if there are any.
///
/// # Errors
/// If Postgres is away.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<ExitCode> {
    let client = operator(settings).await?.get().await?;
    // The checks read whole tables, which may take longer than the usual statement timeout.
    client.batch_execute("set statement_timeout = 0").await?;
    if !args.quiet {
        say(format_args!(
            "{:<28} {:<10} {:>9} {:>9} {:>9} {:>13} {:>9}  ignored because",
            "company", "processor", "accepted", "done", "ignored", "dead-lettered", "in flight"
        ))?;
        let order: Vec<&str> = processors::ALL.iter().map(|it| it.name.as_str()).collect();
        for row in query(&client, TABLE, &[&order]).await? {
            let number = |column: &str| row.get::<_, i64>(column);
            say(format_args!(
                "{:<28} {:<10} {:>9} {:>9} {:>9} {:>13} {:>9}  {}",
                row.get::<_, &str>("company"),
                row.get::<_, &str>("processor"),
                number("accepted"),
                number("done"),
                number("ignored"),
                number("dead_lettered"),
                number("in_flight"),
                row.get::<_, &str>("reasons"),
            ))?;
        }
    }
    let broken = broken(&client).await?;
    for Violation { rule, detail } in &broken {
        say(format_args!("WRONG  {rule}  {detail}"))?;
    }
    if broken.is_empty() {
        say("conserved: nothing vanished, nothing was doubled")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// One row of a check.
#[derive(Debug)]
pub struct Violation {
    /// What does not hold, as a sentence: the check's column `rule`.
    pub rule: String,
    /// Which rows are concerned.
    pub detail: String,
}

/// Runs every check and returns all violations.
///
/// # Errors
/// If Postgres refuses; names the check.
pub async fn broken(client: &impl GenericClient) -> anyhow::Result<Vec<Violation>> {
    let mut broken = Vec::new();
    for (name, sql) in CHECKS {
        let rows = query(client, sql, &[]).await.with_context(|| format!("sql/checks/{name}.sql"))?;
        broken.extend(rows.iter().map(|row| Violation { rule: row.get("rule"), detail: row.get("detail") }));
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::CHECKS;

    #[test]
    fn every_file_of_the_folder_is_a_check() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/checks");
        let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.collect();
        files.sort();
        assert_eq!(CHECKS.iter().map(|(name, _)| format!("{name}.sql")).collect::<Vec<_>>(), files);
    }
}
