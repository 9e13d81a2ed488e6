//! Jobs that do nothing, through our queue: enqueued, claimed, ended, all of it committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use domain::CompanyId;
use platform::clock;
use platform::postgres::{Failure, Transaction};
use platform::queue::{
    self, Call, Claimed, Config, Ending, Health, Loaded, NewJob, Performed, Queue, Summary, Wake, Work, Worker,
};
use platform::task::{self, Stop};
use tokio::time::sleep;
use uuid::Uuid;

use crate::site::Site;

const QUEUE: Queue = Queue::named("bench");
/// Jobs of one enqueuing transaction, of ours and of the peer.
pub(crate) const BATCH: usize = 500;
/// Jobs in flight at once, of ours and of the peer.
pub(crate) const CONCURRENCY: usize = 256;
/// Companies whose jobs they are.
const COMPANIES: usize = 50;

/// Work that does nothing.
struct Nothing {
    ended: Arc<AtomicUsize>,
}

impl Work for Nothing {
    type Job = ();
    type Output = ();

    const QUEUE: Queue = QUEUE;

    async fn load(&self, _: &Transaction<'_>, claimed: &[Claimed]) -> Result<Vec<Loaded<(), ()>>, Failure> {
        Ok(claimed.iter().map(|_| Loaded::Call(())).collect())
    }

    fn held_too_long(&self, _: &Claimed, (): &()) {}

    async fn call(&self, _: &Claimed, (): &(), _: &Call) {}

    async fn finish(&self, _: &Transaction<'_>, jobs: &[Performed<'_, (), ()>]) -> Result<Vec<Ending>, Failure> {
        Ok(vec![Ending::Done; jobs.len()])
    }

    fn summary(&self, (): &(), (): &()) -> Summary {
        Summary { result: "done", class: None, health: Health::Healthy }
    }

    fn committed(&self, _: &Performed<'_, (), ()>, _: &Ending) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Jobs a second, from the first enqueue to the last end.
pub(crate) async fn per_s(site: &Site, jobs: usize) -> anyhow::Result<f64> {
    let (wake, stop, ended) = (Wake::default(), Stop::new(), Arc::new(AtomicUsize::new(0)));
    let worker = Worker {
        work: Nothing { ended: Arc::clone(&ended) },
        db: site.service.clone(),
        config: Config { window: CONCURRENCY, ..Config::default() },
        instance: "bench".into(),
        wake: wake.clone(),
    };
    let running = task::spawn("worker", worker.run(stop.clone()));
    let began = clock::instant();
    for first in (0..jobs).step_by(BATCH) {
        enqueue(site, &wake, first..jobs.min(first + BATCH)).await?;
    }
    while ended.load(Ordering::Relaxed) < jobs {
        ensure!(began.elapsed() < Duration::from_secs(120), "{} of {jobs} jobs ended", ended.load(Ordering::Relaxed));
        sleep(Duration::from_millis(1)).await;
    }
    let took = began.elapsed();
    stop.cancel();
    running.await?;
    let left = site.number("select count(*) from secretaria.jobs").await?;
    ensure!(left == 0 && ended.load(Ordering::Relaxed) == jobs, "{left} jobs are left");
    Ok(jobs as f64 / took.as_secs_f64())
}

async fn enqueue(site: &Site, wake: &Wake, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let company = |number: usize| CompanyId((1 + number % COMPANIES) as i64);
    let jobs: Vec<NewJob> =
        numbers.map(|number| NewJob::new(company(number), Uuid::from_u128(mixed(number)))).collect();
    let mut client = site.service.get().await?;
    let tx = client.transaction().await?;
    queue::enqueue(&tx, QUEUE, &jobs).await?;
    tx.commit().await?;
    wake.enqueued(jobs.iter().map(|it| it.company));
    Ok(())
}

/// Keys in no order, as hashes are.
fn mixed(number: usize) -> u128 {
    let high = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    high ^ (high >> 61)
}
