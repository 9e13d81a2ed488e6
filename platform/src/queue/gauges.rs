//! Queue sizes and the age of the oldest due job, as metrics. Only reads.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use domain::CompanyId;
use metrics::gauge;

use super::Queue;
use crate::metric;
use crate::postgres::{Db, Failure, query};
use crate::task::Stop;
use crate::telemetry::chain;

const EVERY: Duration = Duration::from_secs(5);

/// Jobs that wait or run: not those scheduled for a later hour.
const SIZES: &str = "\
select company_id, count(*)
from (
  select company_id, queue from secretaria.jobs_ready
  union all
  select company_id, queue from secretaria.jobs_waiting
  union all
  select company_id, queue from secretaria.jobs_running
  union all
  select company_id, queue from secretaria.jobs_scheduled where queue = any($1) and due_at < now() + interval '1 hour'
) live
where queue = any($1)
group by company_id";

const OLDEST: &str = "\
select queue, extract(epoch from now() - min(due_at))::float8
from (
  select queue, due_at from secretaria.jobs_ready
  union all
  select queue, due_at from secretaria.jobs_waiting
  union all
  select queue, due_at from secretaria.jobs_scheduled where queue = any($1) and due_at <= now()
) due
where queue = any($1)
group by queue";

/// Measures these queues until stopped.
pub async fn keep_measuring(db: Db, queues: Vec<Queue>, stop: Stop) {
    let mut labels = BTreeMap::new();
    loop {
        match measure(&db, &queues).await {
            Ok((sizes, ages)) => show(&queues, sizes, &ages, &mut labels),
            Err(problem) => tracing::debug!(error = chain(&problem), "queue metrics were not updated"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

type Measured = (Vec<(CompanyId, i64)>, HashMap<String, f64>);

async fn measure(db: &Db, queues: &[Queue]) -> Result<Measured, Failure> {
    let client = db.get().await?;
    let names: Vec<&str> = queues.iter().map(|it| it.name()).collect();
    let sizes = query(&client, SIZES, &[&names]).await?;
    let ages = query(&client, OLDEST, &[&names]).await?;
    Ok((
        sizes.iter().map(|row| (CompanyId(row.get(0)), row.get(1))).collect(),
        ages.iter().map(|row| (row.get(0), row.get(1))).collect(),
    ))
}

/// Sets the gauges. A label that has no jobs any more goes to zero; companies without a label of their own are added up.
fn show(
    queues: &[Queue],
    sizes: Vec<(CompanyId, i64)>,
    ages: &HashMap<String, f64>,
    labels: &mut BTreeMap<String, i64>,
) {
    labels.values_mut().for_each(|waiting| *waiting = 0);
    for (company, waiting) in sizes {
        *labels.entry(metric::company_label(company)).or_default() += waiting;
    }
    for (label, waiting) in labels {
        gauge!(metric::QUEUE_SIZE, "company_id" => label.clone()).set(*waiting as f64);
    }
    for queue in queues {
        let age = ages.get(queue.name()).copied().unwrap_or(0.0);
        gauge!(metric::OLDEST_DUE_JOB, "queue" => queue.name()).set(age);
    }
}
