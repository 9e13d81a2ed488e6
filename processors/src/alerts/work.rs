//! The call, between two transactions.

use std::sync::Arc;
use std::time::Duration;

use domain::{CompanyId, ProcessorName};
use metrics::histogram;
use platform::outward::Reach;
use platform::postgres::{Db, Failure};
use platform::runner::{Claimed, Work};
use platform::seal::{self, Place, Sealer};
use platform::telemetry::chain;
use platform::webhook::{Malformed, Secret};
use platform::{clock, metric};
use secrecy::ExposeSecret;

use super::Config;
use super::claims::{self, Claim, Webhook};
use super::decide::Endpoint;
use super::perform::{self, Finish};
use super::sender::{self, Call, Receiver, Sender};
use super::verdict::{Class, Verdict};
use crate::{Error, Ground, patiently};

/// Calls receivers.
pub(super) struct Calling {
    db: Db,
    instance: String,
    sealer: Arc<Sealer>,
    sender: Sender,
    operator: Option<Receiver>,
    reach: Reach,
    waits: Vec<Duration>,
    lease: Duration,
}

/// A company's secret cannot be had.
#[derive(Debug, thiserror::Error)]
enum NoSecret {
    #[error("webhook secret cannot be opened")]
    Sealed(#[from] seal::Error),
    #[error("webhook secret is malformed")]
    Malformed(#[from] Malformed),
}

impl Calling {
    pub(super) fn new(ground: &Ground, config: &Config, operator: Option<Receiver>) -> Result<Self, Error> {
        Ok(Calling {
            db: ground.db.clone(),
            instance: ground.instance.clone(),
            sealer: Arc::clone(&ground.sealer),
            sender: Sender::new(Duration::from_millis(config.timeout_ms), config.reach())?,
            operator,
            reach: config.reach(),
            waits: config.waits(),
            lease: Duration::from_millis(config.runner.lease_ms),
        })
    }

    async fn attempt(&self, claim: &Claim) -> Verdict {
        let receiver = match claim.endpoint {
            // While settings are being changed, one process may know of an operator and the next not yet.
            Endpoint::Operator => self.operator.clone().ok_or(Verdict::again(Class::NoOperator)),
            Endpoint::Company => self.of_the_company(claim.company).await,
        };
        let receiver = match receiver {
            Ok(receiver) => receiver,
            Err(verdict) => return verdict,
        };
        let began = clock::instant();
        let (id, at) = (claim.event.to_string(), clock::now());
        let verdict = self.sender.call(&receiver, Call { id: &id, at, body: &claim.body }).await;
        histogram!(metric::ALERT_WEBHOOK_LATENCY).record(began.elapsed().as_secs_f64());
        verdict
    }

    /// The company's receiver as it is now: a URL or a secret that was changed since counts at once.
    async fn of_the_company(&self, company: CompanyId) -> Result<Receiver, Verdict> {
        let webhook = match patiently("alerts", || claims::webhook(&self.db, company)).await {
            Ok(webhook) => webhook.ok_or(Verdict::Withdrawn)?,
            Err(problem) => {
                tracing::error!(company_id = company.0, error = chain(&problem), "webhook cannot be read");
                return Err(Verdict::never(Class::UnreadableWebhook));
            }
        };
        let url = sender::address(&webhook.url, self.reach).map_err(Verdict::never)?;
        let secrets = self.open(company, &webhook).map_err(|problem| {
            tracing::error!(company_id = company.0, error = chain(&problem), "webhook secret cannot be opened");
            // Our own fault, a wrong key perhaps: it is tried again while somebody mends it.
            Verdict::again(Class::SealedSecret)
        })?;
        Ok(Receiver { url, secrets })
    }

    fn open(&self, company: CompanyId, webhook: &Webhook) -> Result<Vec<Secret>, NoSecret> {
        let read = |column, sealed: &[u8]| -> Result<Secret, NoSecret> {
            let text = self.sealer.open_text(Place { table: "company_webhooks", column, company }, sealed)?;
            Ok(Secret::parse(text.expose_secret())?)
        };
        let mut secrets = vec![read("secret_sealed", &webhook.secret)?];
        if let Some((previous, until)) = &webhook.previous
            && *until > clock::now()
        {
            secrets.push(read("previous_secret_sealed", previous)?);
        }
        Ok(secrets)
    }
}

impl Work for Calling {
    type Job = Claim;
    type Claim = claims::Name;

    const PROCESSOR: ProcessorName = ProcessorName::Alerts;

    async fn take_back(&self) -> Result<u64, Failure> {
        claims::take_back(&self.db, &self.instance).await
    }

    async fn claim(&self, most: usize) -> Result<Claimed<Claim>, Failure> {
        perform::settle_abandoned(&self.db, &self.waits).await?;
        claims::claim(&self.db, most, &self.instance, self.lease).await
    }

    fn name(&self, job: &Claim) -> Self::Claim {
        (job.company, job.event, job.endpoint, job.attempt)
    }

    async fn renew(&self, claims: &[Self::Claim]) -> Result<(), Failure> {
        claims::renew(&self.db, claims, self.lease).await
    }

    async fn perform(&self, claim: Claim) {
        let began = clock::instant();
        let verdict = self.attempt(&claim).await;
        let finish = patiently("alerts", || perform::finish(&self.db, &claim, &verdict, &self.waits)).await;
        let (company_id, endpoint, attempt) = (claim.company.0, claim.endpoint.as_str(), claim.attempt);
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match finish {
            Ok(Finish::Done(result, _)) => tracing::info!(
                company_id, event = %claim.event, endpoint, attempt, duration_ms, result = result.as_str(),
                status = verdict.status(), class = verdict.class().map(Class::as_str), "webhook attempted"
            ),
            Ok(Finish::Lost) => {
                tracing::info!(company_id, event = %claim.event, endpoint, "claim was lost, its result is void");
            }
            // Its claim runs out, and the attempt becomes one whose end nobody saw.
            Err(problem) => {
                let error = chain(&problem);
                tracing::error!(company_id, event = %claim.event, endpoint, error, "attempt cannot be ended");
            }
        }
    }
}
