//! How much waits for each company, as a metric. Reads the rooms' tables, writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::CompanyId;
use metrics::gauge;
use platform::metric;
use platform::postgres::{Db, Failure, query};
use platform::task::Stop;
use platform::telemetry::chain;

const EVERY: Duration = Duration::from_secs(5);

/// Measures until stopped.
pub(crate) async fn run(db: Db, stop: Stop) {
    let mut labels = BTreeMap::new();
    loop {
        match measure(&db).await {
            Ok(queues) => show(queues, &mut labels),
            Err(problem) => tracing::debug!(error = chain(&problem), "queues were not measured"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Turns and deliveries that have not ended, per company.
async fn measure(db: &Db) -> Result<Vec<(CompanyId, i64)>, Failure> {
    let rows = query(
        &db.get().await?,
        "select company_id, count(*)
         from (
           select company_id from secretaria.turns where state = 'collecting'
           union all
           select company_id from secretaria.turns where state = 'answering'
           union all
           select company_id from secretaria.deliveries where state <> 'ended'
         ) waiting
         group by company_id",
        &[],
    )
    .await?;
    Ok(rows.iter().map(|row| (CompanyId(row.get(0)), row.get(1))).collect())
}

/// A label seen before and empty now goes to zero; companies without a label of their own are added up.
fn show(queues: Vec<(CompanyId, i64)>, labels: &mut BTreeMap<String, i64>) {
    labels.values_mut().for_each(|waiting| *waiting = 0);
    for (company, waiting) in queues {
        *labels.entry(metric::company_label(company)).or_default() += waiting;
    }
    for (label, waiting) in labels {
        gauge!(metric::QUEUE_SIZE, "company_id" => label.clone()).set(*waiting as f64);
    }
}
