//! Waits for conditions, each with a limit: what is still missing when the time is up is said in words.

use std::time::Duration;

use anyhow::bail;
use domain::{CompanyId, EventId};
use platform::{clock, kafka};
use secretaria::processors;
use uuid::Uuid;

use crate::companies::Registered;
use crate::hook;
use crate::run::Run;

const EVERY: Duration = Duration::from_millis(40);

/// Looks until nothing is missing; fails with what is missing if something still is after `limit`.
async fn until_complete<F>(limit: Duration, look: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Vec<(i64, &'static str)>>>,
{
    let began = clock::instant();
    loop {
        let mut missing = look().await?;
        missing.retain(|(count, _)| *count > 0);
        if missing.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= limit {
            let words: Vec<String> = missing.iter().map(|(count, what)| format!("{count} {what}")).collect();
            bail!("{}, after {} s", words.join(", "), limit.as_secs());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Ingest hears of a new company from Postgres; a moment later its hooks are taken.
pub(crate) async fn until_ingest_knows(run: &Run, company: &Registered) -> anyhow::Result<()> {
    let look = || async { Ok(vec![(i64::from(!hook::is_known(run, company).await?), "company unknown to ingest")]) };
    until_complete(Duration::from_secs(10), look).await
}

/// The turn of these messages has ended, and so has the delivery of its answer.
pub(crate) async fn until_answered(run: &Run, company: CompanyId, messages: &[EventId]) -> anyhow::Result<()> {
    let messages: Vec<Uuid> = messages.iter().map(|it| it.0).collect();
    let look = || async {
        let rows = run.query(include_str!("../sql/answered.sql"), &[&company.0, &messages]).await?;
        let left = |column| rows.first().map_or(0, |row| row.get::<_, i64>(column));
        Ok(vec![
            (left("unread"), "messages not read"),
            (left("unanswered"), "messages not answered"),
            (left("undelivered"), "messages whose answer is not delivered"),
        ])
    };
    until_complete(Duration::from_secs(25), look).await
}

/// Nothing of these companies is under way: every record is read, no event is in flight, and none waits to be
/// published. What a run finds from one such moment to the next is its own.
pub(crate) async fn until_at_rest(run: &Run, companies: &[Registered]) -> anyhow::Result<()> {
    let ids: Vec<i64> = companies.iter().map(|it| it.id.0).collect();
    let look = || async {
        // One statement, and only then the broker: a log that ends where this snapshot says it was read to had nothing
        // unread at that instant.
        let rows = run.query(include_str!("../sql/at_rest.sql"), &[&ids]).await?;
        let left = |column| rows.first().map_or(0, |row| row.get::<_, i64>(column));
        let (in_flight, to_publish) = (left("in_flight"), left("to_publish"));
        let offsets: Vec<String> = rows.iter().flat_map(|row| row.get::<_, Vec<String>>("offsets")).collect();
        let config = run.settings.kafka.clone();
        let unread = match in_flight + to_publish {
            0 => tokio::task::spawn_blocking(move || unread(&config, &offsets)).await??,
            _ => 0,
        };
        Ok(vec![
            (in_flight, "events in flight"),
            (to_publish, "records to publish"),
            (unread, "records not read"),
            (left("to_compute"), "days whose rollups are not computed"),
        ])
    };
    until_complete(Duration::from_secs(30), look).await
}

/// Records on the broker beyond what each processor has read. Every offset is `processor topic partition next_offset`.
fn unread(config: &kafka::Config, offsets: &[String]) -> anyhow::Result<i64> {
    let client = config.observer()?;
    let mut unread = 0;
    for (entry, topic) in processors::ALL.iter().flat_map(|entry| entry.topics.iter().map(move |topic| (entry, topic)))
    {
        for partition in 0..config.partitions {
            let patience = Duration::from_secs(5);
            let (start, end) = kafka::watermarks(&client, &config.topic(*topic), i32::from(partition), patience)?;
            let reader = format!("{} {} {partition} ", entry.name, topic.as_str());
            let next = offsets.iter().find_map(|it| it.strip_prefix(&reader)?.parse().ok());
            unread += (end - next.unwrap_or(start)).max(0);
        }
    }
    Ok(unread)
}
