//! `secretaria conservation` — accepted = done + ignored + parked + in flight, per company and processor, and the
//! query that returns a row for everything that vanished or was doubled.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use platform::postgres::query;

use super::{operator, say};
use crate::{Settings, processors};

const TABLE: &str = include_str!("../../sql/checks/conservation_table.sql");
const CHECK: &str = include_str!("../../sql/checks/conservation.sql");

/// Arguments of `conservation`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Only what is wrong: no table.
    #[arg(long)]
    quiet: bool,
}

/// Prints the table and whatever is wrong; fails if anything is.
///
/// # Errors
/// If Postgres is away.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<ExitCode> {
    let client = operator(settings).await?.get().await?;
    // It looks at everything there is; that may take longer than any other statement may.
    client.batch_execute("set statement_timeout = 0").await?;
    if !args.quiet {
        say(format_args!(
            "{:<28} {:<10} {:>9} {:>9} {:>9} {:>9} {:>9}  ignored because",
            "company", "processor", "accepted", "done", "ignored", "parked", "in flight"
        ))?;
        let order: Vec<&str> = processors::ALL.iter().map(|it| it.name.as_str()).collect();
        for row in query(&client, TABLE, &[&order]).await? {
            let number = |column: &str| row.get::<_, i64>(column);
            say(format_args!(
                "{:<28} {:<10} {:>9} {:>9} {:>9} {:>9} {:>9}  {}",
                row.get::<_, &str>("company"),
                row.get::<_, &str>("processor"),
                number("accepted"),
                number("done"),
                number("ignored"),
                number("parked"),
                number("in_flight"),
                row.get::<_, &str>("reasons"),
            ))?;
        }
    }
    let wrong = query(&client, CHECK, &[]).await?;
    for row in &wrong {
        say(format_args!("WRONG  {}  {}", row.get::<_, &str>("law"), row.get::<_, &str>("detail")))?;
    }
    if wrong.is_empty() {
        say("conserved: nothing vanished, nothing was doubled")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
