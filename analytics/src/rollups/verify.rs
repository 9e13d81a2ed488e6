//! Compares the rollups with what they must agree with: the ledger's sums, and the lake computed again.

use jiff::civil::Date;
use platform::postgres::{GenericClient, query};
use platform::task::Stop;
use tokio_postgres::Error as PostgresError;

use super::Rollups;
use super::prices::Prices;
use super::zones::Zones;
use super::{compute, store};
use crate::lake::manifest::{self, DirtyDay};
use crate::lake::{Error, schema};

/// Days on which the rollups and the ledger differ. All days are compared if the archive has read the usage from the first
/// record on; else those from the second day after the lake's first event, since the first days are not whole. Days that are
/// dirty, or whose events are not archived yet, differ for a while.
const LEDGER: &str = "\
with span as (
  select case
      when (
        select max(first_offset)
        from secretaria.consumer_offsets
        where processor = 'archive'
          and topic = 'usage.events'
      ) <= 0 then '-infinity'
      else (
        select min(day) + 2
        from secretaria.lake_files
        where replaced_at is null
      )
    end::date as first_day
), counted as (
  select company_id, day, metric, sum(amount)::bigint as amount
  from (
    select company_id, day, 'message_in' as metric, messages_in as amount from secretaria.rollup_days
    union all
    select company_id, day, 'message_out', messages_out from secretaria.rollup_days
    union all
    select company_id, day, 'tokens_in', tokens_in from secretaria.rollup_days
    union all
    select company_id, day, 'tokens_out', tokens_out from secretaria.rollup_days
    union all
    select company_id, day, 'tokens_cached', tokens_cached from secretaria.rollup_days
  ) measures
  group by company_id, day, metric
), booked as (
  select company_id, day, metric, sum(amount)::bigint as amount
  from secretaria.usage_totals
  group by company_id, day, metric
)
select company_id, day, metric, coalesce(c.amount, 0), coalesce(b.amount, 0)
from counted c
full join booked b using (company_id, day, metric)
where day >= coalesce((select first_day from span), '-infinity')
  and coalesce(c.amount, 0) <> coalesce(b.amount, 0)
order by company_id, day, metric";

/// Differences between the rollups and the ledger, one line each.
///
/// # Errors
/// If Postgres refuses.
pub async fn against_ledger(client: &impl GenericClient) -> Result<Vec<String>, PostgresError> {
    let rows = query(client, LEDGER, &[]).await?;
    Ok(rows
        .iter()
        .map(|it| {
            let (company, day, metric): (i64, Date, String) = (it.get(0), it.get(1), it.get(2));
            let (counted, booked): (i64, i64) = (it.get(3), it.get(4));
            format!("company {company}, {day}, {metric}: the rollup has {counted}, the ledger {booked}")
        })
        .collect())
}

/// Days that are not what their parts add up to, in what SQL can add.
const SERVED: &str = "\
with added as (
  select company_id, day, sum((part ->> 'events')::bigint)::bigint as events, sum((part ->> 'turns')::bigint)::bigint as turns,
    sum((part ->> 'messages_received')::bigint)::bigint as received, sum((part ->> 'deliveries')::bigint)::bigint as deliveries,
    sum((part ->> 'cost_usd_micros')::bigint)::bigint as cost, sum((part ->> 'answer_ms_sum')::bigint)::bigint as answer_ms
  from secretaria.rollup_parts
  group by company_id, day
)
select company_id, day
from added a
full join secretaria.rollup_days d using (company_id, day)
where (a.events, a.turns, a.received, a.deliveries, a.cost, a.answer_ms)
  is distinct from (d.events, d.turns, d.messages_received, d.deliveries, d.cost_usd_micros, d.answer_ms_sum)
union
select company_id, day
from secretaria.rollup_days d
left join (
  select company_id, day, sum(amount)::bigint as events
  from secretaria.rollup_day_counts
  where measure = 'events_by_kind'
  group by company_id, day
) c using (company_id, day)
where d.events is distinct from c.events
order by company_id, day";

/// Days that are served and are not what their parts add up to, one line each.
///
/// # Errors
/// If Postgres refuses.
pub async fn against_parts(client: &impl GenericClient) -> Result<Vec<String>, PostgresError> {
    let rows = query(client, SERVED, &[]).await?;
    let line = |company: i64, day: Date| format!("company {company}, {day}: the day is not what its parts add up to");
    Ok(rows.iter().map(|it| line(it.get(0), it.get(1))).collect())
}

/// How a UTC day compares with the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// One line for each part that differs.
    Compared(Vec<String>),
    /// Its events changed since it was computed.
    Dirty,
}

impl Rollups {
    /// Computes a UTC day again and compares its parts with the stored ones, in one snapshot. Nothing is written.
    ///
    /// # Errors
    /// As for computing it.
    pub async fn compare(&self, day: Date, cancelled: &Stop) -> Result<Comparison, Error> {
        let mut client = self.db.get().await?;
        let level = tokio_postgres::IsolationLevel::RepeatableRead;
        let tx = client.build_transaction().isolation_level(level).read_only(true).start().await?;
        let sql = "select from secretaria.rollup_utc_days where day = $1 and computed_mark < mark";
        if !query(&tx, sql, &[&day]).await?.is_empty() {
            return Ok(Comparison::Dirty);
        }
        let files = manifest::files_between(&tx, day, day).await?;
        let zones = Zones::around(day, store::time_zones(&tx).await?);
        let prices = Prices::load(&tx).await?;
        let mut stored = store::parts(&tx, day).await?;
        tx.commit().await?;
        for file in &files {
            self.lake.read(&file.path, &file.sha256).await?;
        }
        let computed = compute::parts(&self.lake, &files, &zones, &prices, &self.limits, cancelled).await?;
        let mut differences = Vec::new();
        for ((company, local), part) in &computed {
            let date = schema::date(*local).map_or_else(|_| local.to_string(), |it| it.to_string());
            match stored.remove(&(*company, *local)) {
                Some(found) if found == *part => {}
                Some(_) => differences.push(format!("company {company}, {date}: the part of {day} has other numbers")),
                None => differences.push(format!("company {company}, {date}: the part of {day} is not stored")),
            }
        }
        differences
            .extend(stored.keys().map(|(company, _)| format!("company {company}: the part of {day} has no events")));
        Ok(Comparison::Compared(differences))
    }

    /// Every UTC day of the lake that is not dirty, the earliest first.
    ///
    /// # Errors
    /// If Postgres is unavailable.
    pub async fn clean_days(&self) -> Result<Vec<Date>, Error> {
        let client = self.db.get().await?;
        let sql = "select day from secretaria.rollup_utc_days where computed_mark >= mark order by day";
        Ok(query(&client, sql, &[]).await?.iter().map(|it| it.get(0)).collect())
    }

    /// The dirty days among all.
    ///
    /// # Errors
    /// If Postgres is unavailable.
    pub async fn all_dirty(&self) -> Result<Vec<DirtyDay>, Error> {
        self.dirty(i64::MAX).await
    }
}
