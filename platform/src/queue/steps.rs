//! What the worker does, one step at a time: for tests of a processor, which decide themselves when what happens.

use std::sync::Arc;

use domain::CompanyId;

use super::job::{Claimed, Ending};
use super::store::{self, Ended, Offer};
use super::work::{Performed, Work};
use super::worker::{Shared, Worker};
use super::{leases, load};
use crate::postgres::Failure;

/// A worker without its loop.
pub struct Steps<W: Work>(Arc<Shared<W>>);

/// A job whose call is to be made.
pub struct Started<W: Work> {
    /// The job as it was claimed.
    pub claimed: Claimed,
    /// What was loaded.
    pub job: W::Job,
    /// The result, where it is known without a call.
    pub known: Option<W::Output>,
}

impl<W: Work> Steps<W> {
    /// Steps of this worker.
    pub fn new(worker: Worker<W>) -> Self {
        Steps(Arc::new(Shared::from(worker)))
    }

    /// The work.
    pub fn work(&self) -> &W {
        &self.0.work
    }

    /// Makes everything due that is scheduled, whenever it would be.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn make_due(&self) -> Result<(), Failure> {
        let client = self.0.db.get().await?;
        let sql = "with job as (
                     update secretaria.jobs_scheduled set due_at = now() - interval '1 second'
                     where queue = $1 and due_at > now()
                     returning company_id, queue, job_key, due_at
                   )
                   update secretaria.jobs j set due_at = job.due_at from job
                   where (j.company_id, j.queue, j.job_key) = (job.company_id, job.queue, job.job_key)";
        client.execute(sql, &[&W::QUEUE.name()]).await?;
        Ok(())
    }

    /// Promotes what is due and claims at most `most` jobs of all companies.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn claim(&self, most: usize) -> Result<Vec<Started<W>>, Failure> {
        let mut client = self.0.db.get().await?;
        let tx = client.transaction().await?;
        store::prefer_indexes(&tx).await?;
        store::promote(&tx, W::QUEUE, 1_000).await?;
        let sweep = store::ready_companies(&tx, W::QUEUE, CompanyId(i64::MIN), 1_000).await?;
        let offers: Vec<Offer> =
            sweep.companies.into_iter().map(|company| Offer { company, most, before: None }).collect();
        let begun = load::claim_and_load(&self.0, &tx, &offers, most).await.map_err(|it| it.failure)?;
        tx.commit().await?;
        let started = |it: load::Starting<W>| Started { claimed: it.claimed, job: it.job, known: it.known };
        Ok(begun.starting.into_iter().map(started).collect())
    }

    /// Commits a result; nothing if its lease was lost.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn finish(&self, started: &Started<W>, output: &W::Output) -> Result<Option<Ending>, Failure> {
        let mut client = self.0.db.get().await?;
        let tx = client.transaction().await?;
        store::prefer_indexes(&tx).await?;
        if store::release(&tx, W::QUEUE, &[started.claimed.lease]).await?.is_empty() {
            return Ok(None);
        }
        let performed = Performed { claimed: &started.claimed, job: &started.job, output };
        let endings = self.0.work.finish(&tx, std::slice::from_ref(&performed)).await?;
        let ended: Vec<Ended<'_>> =
            endings.iter().map(|ending| Ended { job: &started.claimed, ending: ending.clone() }).collect();
        store::settle(&tx, W::QUEUE, &ended).await?;
        tx.commit().await?;
        let ending = endings.into_iter().next();
        if let Some(ending) = &ending {
            self.0.work.committed(&performed, ending);
        }
        Ok(ending)
    }

    /// Lets the leases of this instance run out and ends their attempts; says how many.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn reclaim(&self) -> Result<usize, Failure> {
        store::expire_own(&self.0.db.get().await?, W::QUEUE, &self.0.instance).await?;
        leases::reclaim(&self.0).await
    }
}
