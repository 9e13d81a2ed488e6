//! The worker one step at a time, without its loop: for tests of processors, which control the order of events.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use domain::CompanyId;

use super::job::{Claimed, Ending, Lease};
use super::shared::{CallPermit, Shared};
use super::store::{self, EndedAttempt, Offer};
use super::work::{self, Call, Performed, Work};
use super::worker::Worker;
use super::{load, reclaim};
use crate::postgres::Failure;

/// A worker without its loop.
pub struct Steps<W: Work>(Arc<Shared<W>>);

/// A job whose call is to be made.
pub struct Started<W: Work> {
    pub claimed: Claimed,
    pub job: W::Job,
    /// The result, if it is known without a call.
    pub known: Option<W::Output>,
    /// Reported with the first result; if the job is dropped without one, its circuit gets [`super::Health::Unclear`].
    permit: Mutex<Option<CallPermit<W>>>,
}

impl<W: Work> Steps<W> {
    pub fn new(worker: Worker<W>) -> Self {
        Steps(Arc::new(Shared::from(worker)))
    }

    pub fn work(&self) -> &W {
        &self.0.work
    }

    /// Makes all scheduled jobs due now.
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

    /// Promotes what is due and claims at most `max` jobs of all companies.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn claim(&self, max: usize) -> Result<Vec<Started<W>>, Failure> {
        let mut client = self.0.db.get().await?;
        let tx = client.transaction().await?;
        store::prefer_indexes(&tx).await?;
        store::promote(&tx, W::QUEUE, 1_000).await?;
        let sweep = store::ready_companies(&tx, W::QUEUE, CompanyId(i64::MIN), 1_000).await?;
        let offers: Vec<Offer> =
            sweep.companies.into_iter().map(|company| Offer { company, max, before: None }).collect();
        let begun = load::claim_and_load(&self.0, &tx, &offers, max).await.map_err(|it| it.failure)?;
        tx.commit().await?;
        let started = |it: load::Starting<W>| Started {
            claimed: it.claimed,
            job: it.job,
            known: it.known,
            permit: Mutex::new(Some(it.permit)),
        };
        Ok(begun.starting.into_iter().map(started).collect())
    }

    /// Claims at most `max` jobs, makes their calls one after the other, and commits each result; returns how many.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn run(&self, max: usize) -> Result<usize, Failure> {
        let started = self.claim(max).await?;
        for it in &started {
            match &it.known {
                Some(output) => self.finish(it, output).await?,
                None => self.finish(it, &self.0.work.call(&it.claimed, &it.job, &Call::new()).await).await?,
            };
        }
        Ok(started.len())
    }

    /// Releases a job that was claimed ahead and got no slot in time.
    pub async fn release(&self, started: Started<W>) {
        self.0.release(&started.claimed).await;
    }

    /// Commits a result; `None` if its lease was lost.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn finish(&self, started: &Started<W>, output: &W::Output) -> Result<Option<Ending>, Failure> {
        Ok(self.finish_all(&[(started, output)]).await?.pop().flatten())
    }

    /// Commits results in one transaction; returns in their order how they ended, `None` if a lease was lost.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn finish_all(&self, results: &[(&Started<W>, &W::Output)]) -> Result<Vec<Option<Ending>>, Failure> {
        for (started, output) in results {
            let permit = started.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(permit) = permit {
                permit.report(self.0.work.summary(&started.job, output).health);
            }
        }
        let mut client = self.0.db.get().await?;
        let tx = client.transaction().await?;
        store::prefer_indexes(&tx).await?;
        let leases: Vec<Lease> = results.iter().map(|(it, _)| it.claimed.lease).collect();
        let released: HashSet<Lease> = store::release(&tx, W::QUEUE, &leases).await?.into_iter().collect();
        let counting = results.iter().filter(|(it, _)| released.contains(&it.claimed.lease));
        let mut performed: Vec<Performed<'_, W::Job, W::Output>> =
            counting.map(|&(it, output)| Performed { claimed: &it.claimed, job: &it.job, output }).collect();
        // In the order in which the worker commits a group.
        performed.sort_by_key(|it| it.claimed.lease);
        let endings = work::finish(&self.0.work, &tx, &performed).await?;
        let ended: Vec<EndedAttempt<'_>> = performed
            .iter()
            .zip(&endings)
            .map(|(it, ending)| EndedAttempt { job: it.claimed, ending: ending.clone() })
            .collect();
        store::settle(&tx, W::QUEUE, &ended).await?;
        tx.commit().await?;
        performed.iter().zip(&endings).for_each(|(it, ending)| self.0.work.committed(it, ending));
        let ending = |lease| ended.iter().find(|it| it.job.lease == lease).map(|it| it.ending.clone());
        Ok(leases.into_iter().map(ending).collect())
    }

    /// Expires the leases of this instance and reclaims them; returns how many.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn reclaim(&self) -> Result<usize, Failure> {
        store::expire_own(&self.0.db.get().await?, W::QUEUE, &self.0.instance).await?;
        reclaim::reclaim(&self.0).await
    }
}
