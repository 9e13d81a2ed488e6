//! The call of a receiver, between two transactions.

use std::sync::Arc;
use std::time::Duration;

use domain::CompanyId;
use metrics::histogram;
use platform::attempt::Verdict;
use platform::egress::Policy;
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Error};
use platform::queue::{Call, Circuit, Claimed, Ending, HoldLimit, Loaded, Queue, Schedule, Summary, Work};
use platform::seal::{self, Sealer, SecretColumn};
use platform::telemetry::chain;
use platform::webhook::{Malformed, Secret};
use platform::{clock, metric};
use secrecy::ExposeSecret;

use super::decide::{CIRCUIT_OPEN, Endpoint, ReceiverResponse};
use super::perform::{self, Attempt};
use super::sender::{self, Receiver, Sender};
use super::store::{self, SealedWebhook, WebhookCall};
use super::{Config, QUEUE};

pub(super) struct Calling {
    sealer: Arc<Sealer>,
    sender: Sender,
    operator: Option<Receiver>,
    policy: Policy,
    schedule: Schedule,
}

/// Why a company's secret cannot be read.
#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error("webhook secret cannot be decrypted")]
    Sealed(#[from] seal::Error),
    #[error("webhook secret is malformed")]
    Malformed(#[from] Malformed),
}

impl Calling {
    pub(super) fn new(context: &Context, config: &Config, operator: Option<Receiver>) -> Result<Self, Error> {
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Calling {
            sealer: Arc::clone(&context.sealer),
            sender: Sender::new(timeout, config.policy()).map_err(Error::client)?,
            operator,
            policy: config.policy(),
            schedule: config.schedule(),
        })
    }

    fn receiver(&self, call: &WebhookCall) -> Result<Receiver, Verdict> {
        match (call.endpoint, &call.webhook) {
            // While settings are being changed, one process may have an operator's receiver and another not yet.
            (Endpoint::Operator, _) => self.operator.clone().ok_or(Verdict::temporary("no_operator")),
            (Endpoint::Company, Some(webhook)) => self.company_receiver(call.company, webhook),
            (Endpoint::Company, None) => Err(Verdict::Withdrawn),
        }
    }

    /// The company's receiver as it is now: a change of the URL or the secret takes effect at once.
    fn company_receiver(&self, company: CompanyId, webhook: &SealedWebhook) -> Result<Receiver, Verdict> {
        let url = self.policy.url(&webhook.url)?;
        let secrets = self.open(company, webhook).map_err(|problem| {
            tracing::error!(company_id = company.0, error = chain(&problem), "webhook secret cannot be read");
            // The fault is ours, perhaps a wrong key: retries leave time to correct it.
            Verdict::temporary("sealed_secret")
        })?;
        Ok(Receiver { url, secrets })
    }

    fn open(&self, company: CompanyId, webhook: &SealedWebhook) -> Result<Vec<Secret>, SecretError> {
        let read = |column, sealed: &[u8]| -> Result<Secret, SecretError> {
            let text = self.sealer.open_text(SecretColumn { table: "company_webhooks", column, company }, sealed)?;
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
    type Job = WebhookCall;
    type Output = ReceiverResponse;

    const QUEUE: Queue = QUEUE;

    async fn load(
        &self,
        tx: &Transaction<'_>,
        claimed: &[Claimed],
    ) -> Result<Vec<Loaded<WebhookCall, ReceiverResponse>>, Failure> {
        Ok(store::load(tx, claimed).await?.into_iter().map(|it| it.map_or(Loaded::Gone, Loaded::Call)).collect())
    }

    fn circuit(&self, call: &WebhookCall) -> Option<Circuit> {
        let credential = match call.endpoint {
            Endpoint::Operator => "operator".to_owned(),
            Endpoint::Company => call.company.to_string(),
        };
        Some(Circuit { provider: "webhook", credential })
    }

    fn hold_limit(&self) -> HoldLimit {
        HoldLimit::WhileOpen(self.schedule.total())
    }

    fn held_too_long(&self, _: &Claimed, _: &WebhookCall) -> ReceiverResponse {
        Verdict::permanent(CIRCUIT_OPEN).into()
    }

    async fn begin(&self, tx: &Transaction<'_>, starting: &mut [(&Claimed, &mut WebhookCall)]) -> Result<(), Failure> {
        Ok(store::begin_attempts(tx, starting).await?)
    }

    async fn call(&self, _: &Claimed, call: &WebhookCall, _: &Call) -> ReceiverResponse {
        let receiver = match self.receiver(call) {
            Ok(receiver) => receiver,
            Err(verdict) => return verdict.into(),
        };
        let began = clock::instant();
        let (id, at) = (call.event.to_string(), clock::now());
        let response = self.sender.call(&receiver, sender::WebhookRequest { id: &id, at, body: &call.body }).await;
        histogram!(metric::ALERT_WEBHOOK_LATENCY).record(began.elapsed().as_secs_f64());
        response
    }

    async fn finish(&self, tx: &Transaction<'_>, performed: &[Attempt<'_>]) -> Result<Vec<Ending>, Failure> {
        let mut endings = Vec::with_capacity(performed.len());
        for it in performed {
            endings.push(perform::end(tx, it, &self.schedule).await?);
        }
        Ok(endings)
    }

    /// The call may have arrived; it is made again.
    fn expired_output(&self) -> Option<ReceiverResponse> {
        Some(Verdict::unknown("lease_ran_out").into())
    }

    fn summary(&self, _: &WebhookCall, response: &ReceiverResponse) -> Summary {
        let result = match response.verdict {
            Verdict::Done => "delivered",
            Verdict::Withdrawn => "withdrawn",
            _ => "failed",
        };
        Summary { result, class: response.verdict.class(), health: response.health() }
    }

    fn committed(&self, performed: &Attempt<'_>, ending: &Ending) {
        perform::count(performed, ending);
    }
}
