//! What a claim of one job costs beside a million that wait: the queue's own statements, one transaction each.

use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use platform::clock;
use platform::postgres::query;

use crate::site::Site;

/// What `platform::queue` claims with.
const CLAIM: &str = include_str!("../../platform/src/queue/sql/claim.sql");
/// What it runs before, in the same transaction.
const PREFER_INDEXES: &str =
    "select set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true)";

/// And before that, for companies with a cap.
const LOCK_CAPPED: &str = "select pg_advisory_xact_lock(hashtextextended('job queue ' || $1, company_id))
         from (
           select c.company_id
           from unnest($2::bigint[]) as c (company_id)
           where $3 or exists (
             select from secretaria.queue_limits l
             where l.company_id = c.company_id and l.queue = $1 and l.max_running is not null)
           order by c.company_id
         ) capped";

/// What waits while claims are made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waiting {
    /// Jobs of many companies, none of which is due.
    NotDue,
    /// Jobs of one company that are ready, while another one's are claimed.
    ReadyOfAnother,
}

/// Inserts this many jobs, and `claims` ready ones of company 1.
pub(crate) async fn fill(site: &Site, waiting: Waiting, jobs: usize, claims: usize) -> anyhow::Result<()> {
    let (table, columns, values) = match waiting {
        Waiting::NotDue => (
            "jobs_scheduled",
            "queue, due_at, company_id, job_key, keeps_lane, priority, attempts",
            "'bench', due_at, company_id, job_key, false, 0, 0",
        ),
        Waiting::ReadyOfAnother => (
            "jobs_ready",
            "company_id, queue, priority, due_at, job_key, attempts",
            "company_id, 'bench', 0, due_at, job_key, 0",
        ),
    };
    let (company, due_at) = match waiting {
        Waiting::NotDue => ("2 + n % 1000", "now() + interval '1 hour' + n * interval '10 milliseconds'"),
        Waiting::ReadyOfAnother => ("2", "now() - n * interval '1 millisecond'"),
    };
    let fill = |company: &str, due_at: &str, count: usize, table: &str, columns: &str, values: &str| {
        format!(
            "with made as (
               insert into secretaria.jobs (company_id, queue, job_key, due_at)
               select {company}, 'bench', gen_random_uuid(), {due_at}
               from generate_series(1, {count}) n
               returning company_id, job_key, due_at
             )
             insert into secretaria.{table} ({columns})
             select {values}
             from made;"
        )
    };
    let ready =
        ("company_id, queue, priority, due_at, job_key, attempts", "company_id, 'bench', 0, due_at, job_key, 0");
    let sql = [
        "truncate secretaria.jobs, secretaria.jobs_scheduled, secretaria.jobs_ready, secretaria.jobs_running;".into(),
        fill(company, due_at, jobs, table, columns, values),
        fill("1", "now() - interval '1 second'", claims, "jobs_ready", ready.0, ready.1),
    ];
    site.root.batch_execute(&sql.concat()).await?;
    // A claim should not wait for the flush of these inserts.
    site.root.batch_execute("vacuum analyze").await?;
    Ok(site.root.batch_execute("checkpoint").await?)
}

/// The median time of a claim of one job of company 1, its transaction and its flush included, in milliseconds.
pub(crate) async fn median_ms(site: &Site, claims: usize) -> anyhow::Result<f64> {
    let mut client = site.service.get().await?;
    let mut times = Vec::with_capacity(claims);
    for _ in 0..claims {
        let began = clock::instant();
        let tx = client.transaction().await?;
        query(&tx, PREFER_INDEXES, &[]).await?;
        let (companies, each, before) = (vec![1_i64], vec![1_i32], vec![Timestamp::MAX]);
        query(&tx, LOCK_CAPPED, &[&"bench", &companies, &false]).await?;
        let cap = i32::MAX;
        let claimed =
            query(&tx, CLAIM, &[&"bench", &companies, &each, &before, &cap, &"bench", &1_i64, &15.0_f64]).await?;
        ensure!(claimed.len() == 1, "a claim found {} jobs", claimed.len());
        tx.commit().await?;
        times.push(began.elapsed());
    }
    // The connection's first statements are planned each time.
    times.drain(..claims / 10);
    times.sort();
    Ok(times.get(times.len() / 2).copied().unwrap_or(Duration::MAX).as_secs_f64() * 1e3)
}
