//! No-op jobs through graphile_worker, enqueue included: `graphile-peer URL JOBS BATCH CONCURRENCY plain|batching`.
//!
//! Plain, a worker fetches and completes each job by itself, which is its default. Batching, jobs
//! are fetched into its local queue and completed in batches. Both enqueue `BATCH` jobs a statement, and without keys, which
//! is quicker than with them; ours have keys always.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Clone)]
struct Ended(Arc<AtomicUsize>);

#[derive(Serialize, Deserialize)]
struct Nothing {}

impl TaskHandler for Nothing {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(ended) = context.get_ext::<Ended>() {
            ended.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    }
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, jobs, batch, concurrency, how] = arguments.as_slice() else {
        return Err("usage: graphile-peer URL JOBS BATCH CONCURRENCY plain|batching".into());
    };
    let (jobs, batch, concurrency): (usize, usize, usize) = (jobs.parse()?, batch.parse()?, concurrency.parse()?);
    let ended = Arc::new(AtomicUsize::new(0));
    let mut options = WorkerOptions::default()
        .database_url(url)
        .max_pg_conn(24)
        .schema("graphile_worker")
        .concurrency(concurrency)
        .poll_interval(Duration::from_millis(5))
        .listen_os_shutdown_signals(false)
        .add_extension(Ended(Arc::clone(&ended)))
        .define_job::<Nothing>();
    if how == "batching" {
        options = options
            .complete_job_batch_delay(Duration::from_millis(5))
            .local_queue(LocalQueueConfig::default().with_size(5_000));
    }
    let worker = Arc::new(options.init().await?);
    let utils = worker.create_utils();
    utils.migrate().await?;
    let running = tokio::spawn({
        let worker = Arc::clone(&worker);
        async move { worker.run().await.map_err(|it| it.to_string()) }
    });
    let began = Instant::now();
    for first in (0..jobs).step_by(batch) {
        let specs: Vec<RawJobSpec> = (first..jobs.min(first + batch)).map(|_| spec()).collect();
        utils.add_raw_jobs(&specs).await?;
    }
    while ended.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The last completions are still on their way; stopping waits for them.
    worker.request_shutdown();
    running.await??;
    println!("jobs_per_s {:.0}", jobs as f64 / began.elapsed().as_secs_f64());
    Ok(())
}

fn spec() -> RawJobSpec {
    let payload = serde_json::json!({});
    RawJobSpec { identifier: Nothing::IDENTIFIER.into(), payload, spec: JobSpec::default() }
}
