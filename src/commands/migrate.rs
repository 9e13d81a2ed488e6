//! `secretaria migrate` — the database, the default company, the topics and the keys. Safe to repeat.

use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use platform::kafka;
use platform::postgres::Db;
use platform::seal::Sealer;
use platform::task;
use processors::conversations::division::{self, DivisionOutcome, Finding};
use tokio_postgres::NoTls;

use super::{company, functions, old_processes, operator, say};
use crate::Settings;

const OWNER: &str = "setting `postgres.owner_url`; where the local stack is meant, `make up` starts it";

/// How long creating topics may take before the command prints what it waits for.
const QUIET_FOR: Duration = Duration::from_secs(1);

mod embedded {
    refinery::embed_migrations!("sql/migrations");
}

/// The migrations of this build.
pub fn runner() -> refinery::Runner {
    embedded::migrations::runner()
}

/// Arguments of `migrate`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// How long to wait for processors of an earlier release to end, where they must not run meanwhile.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub wait: u64,
}

/// Brings everything up to date and prints what was done.
///
/// # Errors
/// If Postgres or the broker is away, or one of them refuses; if processors of an earlier release still run that must not.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<()> {
    for path in api::keys::create_missing(&settings.keys.dir)? {
        say(format_args!("key made         {}", path.display()))?;
    }
    let db = Db::new(&settings.postgres.owner_url, &settings.postgres, "migrate")?;
    db.get().await.map(drop).context(OWNER)?;
    old_processes::await_end(&db, Duration::from_secs(args.wait)).await?;
    database(settings).await?;
    for topic in topics(&settings.kafka).await? {
        say(format_args!("topic made       {topic} ({} partitions)", settings.kafka.partitions))?;
    }
    say("everything is up to date")?;
    Ok(())
}

/// Migrates the database alone, where topics are created by other means.
///
/// # Errors
/// If Postgres is away or refuses.
pub async fn database(settings: &Settings) -> anyhow::Result<()> {
    let applied = platform::migrate::run(&settings.postgres.owner_url, runner()).await.context(OWNER)?;
    for migration in &applied {
        say(format_args!("migration done   {migration}"))?;
    }
    let db = Db::new(&settings.postgres.owner_url, &settings.postgres, "migrate")?;
    if let Some(moved) = old_processes::moved(&db, &applied).await? {
        say(format_args!("work moved       {moved}"))?;
    }
    replace_functions(settings).await.context("SQL functions")?;
    let sealer = Sealer::from_file(&settings.keys.key_encryption_key())?;
    let operator = operator(settings).await?;
    api::companies::ensure_default(&operator, &sealer).await?;
    let subscribed = api::companies::subscribe_all(&operator).await?;
    if subscribed > 0 {
        say(format_args!("plan given       {} to {subscribed} companies", api::companies::FIRST_PLAN))?;
    }
    divide_contacts(&db).await.context("contacts of two people")?;
    for warning in company::warnings(&api::companies::list(&operator).await?) {
        say(warning)?;
    }
    Ok(())
}

/// Divides contacts that were made of two people; prints which, and which an operator should look at. Ids only, no numbers.
async fn divide_contacts(db: &Db) -> anyhow::Result<()> {
    for Finding { company, contact, outcome } in division::run(db).await? {
        match outcome {
            DivisionOutcome::Mobile => {
                say(format_args!("contact moved    {contact} of company {company} to its mobile number"))?
            }
            DivisionOutcome::Divided { other, turns, unproven } => say(format_args!(
                "contact divided  {contact} of company {company}: {turns} turns are {other}'s, {unproven} of either stay"
            ))?,
            DivisionOutcome::Unproven => say(format_args!(
                "look at contact  {contact} of company {company}: it may be a landline, a mobile or both"
            ))?,
        }
    }
    Ok(())
}

/// The functions that go with the tables.
async fn replace_functions(settings: &Settings) -> anyhow::Result<()> {
    let (mut client, connection) = tokio_postgres::connect(settings.postgres.owner_url.expose(), NoTls).await?;
    let connection = task::spawn("functions", connection);
    functions::apply(&mut client).await?;
    drop(client);
    connection.abort();
    Ok(())
}

/// Creates the topics; prints a line if the broker does not answer soon.
async fn topics(config: &kafka::Config) -> anyhow::Result<Vec<String>> {
    let made = kafka::create_topics(config);
    tokio::pin!(made);
    if let Ok(topics) = tokio::time::timeout(QUIET_FOR, &mut made).await {
        return Ok(topics?);
    }
    say(format_args!("waiting for kafka at {}", config.bootstrap))?;
    Ok(made.await?)
}
