//! Waits for conditions, each bounded: what is still missing when the time is up is said in words.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use domain::{EventId, Topic};
use platform::postgres::query;
use platform::{clock, kafka};
use uuid::Uuid;

use crate::cast::{Cast, Company};
use crate::found;
use crate::play::Played;
use crate::script::Script;
use crate::send;
use crate::stage::Stage;

const EVERY: Duration = Duration::from_millis(40);

/// What a look at a condition shows.
pub(crate) enum Look {
    /// It holds.
    Holds,
    /// It does not: this is missing.
    Missing(String),
}

/// Looks until the condition holds; the last thing missing, in words, if it does not within `patience`.
pub(crate) async fn until<F>(patience: Duration, look: impl Fn() -> F) -> anyhow::Result<Option<String>>
where
    F: Future<Output = anyhow::Result<Look>>,
{
    let began = clock::instant();
    loop {
        match look().await? {
            Look::Holds => return Ok(None),
            Look::Missing(what) if began.elapsed() >= patience => {
                return Ok(Some(format!("{what}, after {} s", patience.as_secs())));
            }
            Look::Missing(_) => tokio::time::sleep(EVERY).await,
        }
    }
}

/// Ingest hears of a new company from Postgres; a moment later its hooks are taken.
pub(crate) async fn until_ingest_knows(stage: &Stage, cast: &Cast) -> anyhow::Result<()> {
    for company in cast.iter() {
        let missing = until(Duration::from_secs(10), || async {
            Ok(match send::is_known(stage, company).await? {
                true => Look::Holds,
                false => Look::Missing(format!("ingest does not take hooks of {}", company.who.domain())),
            })
        });
        if let Some(missing) = missing.await? {
            bail!(missing);
        }
    }
    Ok(())
}

/// What an earlier run left behind, cut short perhaps, is not counted as this one's: every record is read, nothing read
/// is under way, and nothing waits to be published.
pub(crate) async fn until_quiet(stage: &Stage, cast: &Cast) -> anyhow::Result<()> {
    let missing = until(Duration::from_secs(30), || async {
        // One statement, and only then the broker: a log that ends where this snapshot says it was read to had nothing
        // unread at that instant.
        let sql = "
            select (select count(*) from secretaria.event_marks where company_id = any($1) and state = 'in_flight'),
              (select count(*) from secretaria.outbox where company_id = any($1)),
              array(select topic from secretaria.consumer_offsets order by processor, topic, partition),
              array(select partition from secretaria.consumer_offsets order by processor, topic, partition),
              array(select next_offset from secretaria.consumer_offsets order by processor, topic, partition)";
        let rows = query(&stage.db.get().await?, sql, &[&cast.ids()]).await?;
        let mut read = HashMap::new();
        for row in &rows {
            let at = row.get::<_, Vec<String>>(2).into_iter().zip(row.get::<_, Vec<i32>>(3));
            read.extend(at.zip(row.get::<_, Vec<i64>>(4)));
        }
        let config = stage.settings.kafka.clone();
        let unread = tokio::task::spawn_blocking(move || unread(&config, &read)).await??;
        Ok(missing(&[
            (left(&rows, 0), "events of an earlier run in flight"),
            (left(&rows, 1), "records to publish"),
            (unread, "records on the broker that nobody has read"),
        ]))
    });
    match missing.await? {
        None => Ok(()),
        Some(missing) => bail!("the companies are not at rest: {missing}"),
    }
}

/// Records on the broker beyond what was read of each partition.
fn unread(config: &kafka::Config, read: &HashMap<(String, i32), i64>) -> anyhow::Result<i64> {
    let client = config.observer()?;
    let mut unread = 0;
    for topic in [Topic::InboundMessages, Topic::OutboundMessages, Topic::UsageEvents] {
        for partition in 0..i32::from(config.partitions) {
            let (start, end) = kafka::watermarks(&client, &config.topic(topic), partition, Duration::from_secs(5))?;
            let next = read.get(&(topic.as_str().to_owned(), partition)).copied().unwrap_or(start);
            unread += (end - next).max(0);
        }
    }
    Ok(unread)
}

/// The turn of these messages has ended, and so has the delivery of its answer.
pub(crate) async fn until_answered(stage: &Stage, company: &Company, ids: &[EventId]) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|it| it.0).collect();
    let missing = until(Duration::from_secs(25), || async {
        let sql = "
            select count(*) filter (where t.state is null),
              count(*) filter (where t.state <> 'ended'),
              count(*) filter (where t.state = 'ended' and d.state is distinct from 'ended')
            from unnest($2::uuid[]) as wanted (id)
            left join secretaria.messages m on m.company_id = $1 and m.message_id = wanted.id
            left join secretaria.turns t on t.company_id = m.company_id and t.turn_id = m.turn_id
            left join secretaria.deliveries d on d.company_id = t.company_id and d.delivery_id = t.reply_id";
        let rows = query(&stage.db.get().await?, sql, &[&company.id.0, &ids]).await?;
        let (unread, open, undelivered) = (left(&rows, 0), left(&rows, 1), left(&rows, 2));
        Ok(missing(&[
            (unread, "messages not taken in"),
            (open, "messages not answered"),
            (undelivered, "messages whose answer is not delivered"),
        ]))
    });
    match missing.await? {
        None => Ok(()),
        Some(missing) => bail!(missing),
    }
}

/// Nothing of this run is under way any more; otherwise what is.
pub(crate) async fn until_settled(
    stage: &Stage,
    cast: &Cast,
    script: &Script,
    played: &Played,
) -> anyhow::Result<Option<String>> {
    let events: Vec<Uuid> = played.hooks.iter().filter_map(|it| Some(it.id?.0)).collect();
    until(Duration::from_secs(30), || async {
        let turns = found::turns(stage, cast, script, played).await?;
        let replies: Vec<Uuid> = turns.iter().filter_map(|it| it.reply).collect();
        let keys: Vec<String> = turns.iter().flat_map(found::Turn::usage_keys).collect();
        let sql = "
            select
              (select count(*) from unnest($2::uuid[]) as wanted (id) where not exists (
                 select from secretaria.event_marks m
                 where m.company_id = any($1) and m.processor = 'reply' and m.event_id = wanted.id
                   and m.state <> 'in_flight')),
              (select count(*) from unnest($3::uuid[]) as wanted (id) where not exists (
                 select from secretaria.event_marks m
                 where m.company_id = any($1) and m.processor = 'delivery' and m.event_id = wanted.id
                   and m.state <> 'in_flight')),
              (select count(*) from unnest($4::text[]) as wanted (key) where not exists (
                 select from secretaria.usage_events u
                 where u.company_id = any($1) and u.idempotency_key = wanted.key)),
              (select count(*) from secretaria.outbox where company_id = any($1))";
        let rows = query(&stage.db.get().await?, sql, &[&cast.ids(), &events, &replies, &keys]).await?;
        Ok(missing(&[
            (left(&rows, 0), "hooks without an end"),
            (left(&rows, 1), "deliveries without an end"),
            (left(&rows, 2), "usage facts not booked"),
            (left(&rows, 3), "records to publish"),
        ]))
    })
    .await
}

fn left(rows: &[platform::postgres::Row], column: usize) -> i64 {
    rows.first().map_or(0, |row| row.get(column))
}

fn missing(parts: &[(i64, impl Display)]) -> Look {
    let some: Vec<String> =
        parts.iter().filter(|(left, _)| *left > 0).map(|(left, what)| format!("{left} {what}")).collect();
    if some.is_empty() { Look::Holds } else { Look::Missing(some.join(", ")) }
}
