//! The send, between two transactions.

use std::sync::Arc;
use std::time::Duration;

use domain::{CompanyId, EventId, MessageId, ProcessorName};
use metrics::histogram;
use platform::postgres::{Db, Failure};
use platform::runner::{Claimed, Work};
use platform::seal::{self, Place, Sealer};
use platform::telemetry::chain;
use platform::{clock, metric};
use secrecy::SecretString;

use super::Config;
use super::claims::{self, Channel, Claim};
use super::perform::{self, Finish};
use super::whaticket::{self, Account, Auth, Credentials, Letter, Verdict};
use crate::{Error, Ground, patiently};

/// Sends messages.
pub(super) struct Sending {
    db: Db,
    instance: String,
    sealer: Arc<Sealer>,
    provider: whaticket::Client,
    waits: Vec<Duration>,
    lease: Duration,
}

impl Sending {
    pub(super) fn new(ground: &Ground, config: &Config) -> Result<Self, Error> {
        Ok(Sending {
            db: ground.db.clone(),
            instance: ground.instance.clone(),
            sealer: Arc::clone(&ground.sealer),
            provider: whaticket::Client::new(Duration::from_millis(config.timeout_ms))?,
            waits: config.waits(),
            lease: Duration::from_millis(config.runner.lease_ms),
        })
    }

    async fn attempt(&self, claim: &Claim, channel: Option<Channel>) -> Verdict {
        let Some(channel) = channel else { return Verdict::Permanent { class: "no_channel" } };
        let account = match self.open(claim.company, channel) {
            Ok(account) => account,
            Err(problem) => {
                tracing::error!(company_id = claim.company.0, error = chain(&problem), "channel cannot be opened");
                // Our own fault, a wrong key perhaps: it is tried again while somebody mends it.
                return Verdict::Temporary { class: "sealed_channel", retry_after: None };
            }
        };
        let began = clock::instant();
        let letter = Letter {
            message_id: MessageId(claim.delivery.0),
            attempt: claim.attempt.unsigned_abs(),
            number: &claim.to,
            body: &claim.body,
            traceparent: claim.traceparent.as_deref(),
        };
        let verdict = self.provider.send(&account, &letter).await;
        histogram!(metric::WHATICKET_LATENCY).record(began.elapsed().as_secs_f64());
        verdict
    }

    fn open(&self, company: CompanyId, channel: Channel) -> Result<Account, seal::Error> {
        let text = |column, sealed: &[u8]| -> Result<SecretString, seal::Error> {
            self.sealer.open_text(Place { table: "channels", column, company }, sealed)
        };
        let auth = match channel.credentials {
            claims::Credentials::Token(token) => Auth::Token(text("token_sealed", &token)?),
            claims::Credentials::Login { email, password } => {
                Auth::Login(Credentials { email, password: text("login_password_sealed", &password)? })
            }
        };
        Ok(Account { company, base_url: channel.base_url, auth })
    }
}

impl Work for Sending {
    type Job = Claim;
    type Claim = (CompanyId, EventId, i32);

    const PROCESSOR: ProcessorName = ProcessorName::Delivery;

    async fn take_back(&self) -> Result<u64, Failure> {
        claims::take_back(&self.db, &self.instance).await
    }

    async fn claim(&self, most: usize) -> Result<Claimed<Claim>, Failure> {
        perform::settle_abandoned(&self.db, &self.waits).await?;
        claims::claim(&self.db, most, &self.instance, self.lease).await
    }

    fn name(&self, job: &Claim) -> Self::Claim {
        (job.company, job.delivery, job.attempt)
    }

    async fn renew(&self, claims: &[Self::Claim]) -> Result<(), Failure> {
        claims::renew(&self.db, claims, self.lease).await
    }

    async fn perform(&self, claim: Claim) {
        let began = clock::instant();
        let verdict = match patiently("delivery", || claims::channel(&self.db, claim.company)).await {
            Ok(channel) => self.attempt(&claim, channel).await,
            Err(problem) => {
                tracing::error!(company_id = claim.company.0, error = chain(&problem), "channel cannot be read");
                Verdict::Permanent { class: "unreadable_channel" }
            }
        };
        let finish = patiently("delivery", || perform::finish(&self.db, &claim, &verdict, &self.waits)).await;
        let company_id = claim.company.0;
        let correlation_id = claim.traceparent.as_deref().and_then(|it| it.get(3..35)).unwrap_or("");
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match finish {
            Ok(Finish::Done(result, _)) => tracing::info!(
                company_id, delivery = %claim.delivery, attempt = claim.attempt, correlation_id, duration_ms,
                result = result.as_str(), class = verdict.class(), "delivery attempted"
            ),
            Ok(Finish::Lost) => {
                tracing::info!(company_id, delivery = %claim.delivery, correlation_id, "claim was lost, its result is void");
            }
            // Its claim runs out, and the attempt becomes one whose end nobody saw.
            Err(problem) => {
                tracing::error!(company_id, delivery = %claim.delivery, error = chain(&problem), "attempt cannot be ended");
            }
        }
    }
}
