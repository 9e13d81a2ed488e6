//! The rows that are measured on: companies, twenty features each, plans and overrides that agree with them.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use platform::clock;
use tokio_postgres::Client;

/// Makes everything again, without the triggers: the rows are written as they would be resolved. Says whether the
/// extension is installed in this database.
pub(crate) async fn make(client: &Client, companies: u32) -> anyhow::Result<bool> {
    let sql = include_str!("rows.sql").replace(":companies", &companies.to_string());
    client.batch_execute(&sql).await.context("the rows cannot be made")?;
    client.batch_execute(include_str!("waterfall.sql")).await.context("the waterfall cannot be made")?;
    client.batch_execute("vacuum (analyze)").await?;
    client.batch_execute("checkpoint").await?;
    let available = "select from pg_available_extensions where name = 'secretaria'";
    if client.query_opt(available, &[]).await?.is_none() {
        return Ok(false);
    }
    client.batch_execute("create extension if not exists secretaria").await.context("create extension secretaria")?;
    Ok(true)
}

/// How long the disk takes to make 8 KB durable: the median of a hundred.
pub(crate) fn flush_latency_ms() -> anyhow::Result<f64> {
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/bench-quota.flush");
    let mut file = File::create(path)?;
    let mut times = Vec::with_capacity(100);
    for _ in 0..100 {
        file.write_all(&[7; 8_192])?;
        let began = clock::instant();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    times.sort();
    Ok(times.get(50).map_or(0.0, Duration::as_secs_f64) * 1e3)
}
