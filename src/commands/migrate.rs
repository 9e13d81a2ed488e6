//! `secretaria migrate` — the database, the default company, the topics and the keys. Safe to repeat.

use anyhow::Context;
use platform::kafka;
use platform::seal::Sealer;

use super::operator;
use crate::Settings;

mod embedded {
    refinery::embed_migrations!("sql/migrations");
}

/// The migrations of this build.
pub fn runner() -> refinery::Runner {
    embedded::migrations::runner()
}

/// Brings everything up to date and says what was done.
///
/// # Errors
/// If Postgres or the broker is away, or one of them refuses.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    for path in api::keys::create_missing(&settings.keys.dir)? {
        println!("key made         {}", path.display());
    }
    database(settings).await?;
    let topics = kafka::create_topics(&settings.kafka)
        .await
        .with_context(|| format!("setting `kafka.bootstrap`: {}", settings.kafka.bootstrap))?;
    for topic in topics {
        println!("topic made       {topic} ({} partitions)", settings.kafka.partitions);
    }
    println!("everything is up to date");
    Ok(())
}

/// The database alone, for brokers that make topics otherwise.
///
/// # Errors
/// If Postgres is away or refuses.
pub async fn database(settings: &Settings) -> anyhow::Result<()> {
    let applied =
        platform::migrate::run(&settings.postgres.owner_url, runner()).await.context("setting `postgres.owner_url`")?;
    for migration in applied {
        println!("migration done   {migration}");
    }
    let sealer = Sealer::from_file(&settings.keys.key_encryption_key())?;
    api::companies::ensure_default(&operator(settings)?, &sealer).await?;
    Ok(())
}
