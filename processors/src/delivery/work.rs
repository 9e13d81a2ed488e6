//! The send, between two transactions.

use std::sync::Arc;
use std::time::Duration;

use domain::MessageId;
use metrics::histogram;
use platform::attempt::Verdict;
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Error};
use platform::queue::{Call, Circuit, Claimed, Ending, HoldLimit, Loaded, Performed, Queue, Schedule, Summary, Work};
use platform::seal::{self, Sealer, SecretColumn};
use platform::telemetry::chain;
use platform::{clock, metric};
use secrecy::SecretString;

use super::perform;
use super::store::{self, Delivery, SealedAccount};
use super::whaticket::{self, Account, Auth, CIRCUIT_OPEN, Credentials, SendRequest};
use super::{Config, QUEUE};

pub(super) struct Sending {
    sealer: Arc<Sealer>,
    provider: whaticket::Client,
    schedule: Schedule,
}

impl Sending {
    pub(super) fn new(context: &Context, config: &Config) -> Result<Self, Error> {
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Sending {
            sealer: Arc::clone(&context.sealer),
            provider: whaticket::Client::new(timeout).map_err(Error::client)?,
            schedule: config.schedule(),
        })
    }

    fn open(&self, delivery: &Delivery, sealed: &SealedAccount) -> Result<Account, seal::Error> {
        let company = delivery.company;
        let text = |column, sealed: &[u8]| -> Result<SecretString, seal::Error> {
            self.sealer.open_text(SecretColumn { table: "channels", column, company }, sealed)
        };
        let auth = match &sealed.credentials {
            store::SealedCredentials::Token(token) => Auth::Token(text("token_sealed", token)?),
            store::SealedCredentials::Login { email, password } => {
                Auth::Login(Credentials { email: email.clone(), password: text("login_password_sealed", password)? })
            }
        };
        Ok(Account { company, base_url: sealed.base_url.clone(), auth })
    }
}

impl Work for Sending {
    type Job = Delivery;
    type Output = Verdict;

    const QUEUE: Queue = QUEUE;

    async fn load(&self, tx: &Transaction<'_>, claimed: &[Claimed]) -> Result<Vec<Loaded<Delivery, Verdict>>, Failure> {
        Ok(store::load(tx, claimed).await?.into_iter().map(|it| it.map_or(Loaded::Gone, Loaded::Call)).collect())
    }

    fn circuit(&self, delivery: &Delivery) -> Option<Circuit> {
        Some(Circuit { provider: "whaticket", credential: delivery.company.to_string() })
    }

    fn hold_limit(&self) -> HoldLimit {
        HoldLimit::WhileOpen(self.schedule.total())
    }

    fn held_too_long(&self, _: &Claimed, _: &Delivery) -> Verdict {
        Verdict::permanent(CIRCUIT_OPEN)
    }

    async fn begin(&self, tx: &Transaction<'_>, starting: &mut [(&Claimed, &mut Delivery)]) -> Result<(), Failure> {
        Ok(store::begin_attempts(tx, starting).await?)
    }

    async fn call(&self, claimed: &Claimed, delivery: &Delivery, _: &Call) -> Verdict {
        let Some(sealed) = &delivery.account else { return Verdict::permanent("no_channel") };
        let account = match self.open(delivery, sealed) {
            Ok(account) => account,
            Err(problem) => {
                tracing::error!(
                    company_id = delivery.company.0,
                    error = chain(&problem),
                    "secrets of a channel cannot be decrypted"
                );
                // The fault is ours, perhaps a wrong key: retries leave time to correct it.
                return Verdict::temporary("sealed_channel");
            }
        };
        let began = clock::instant();
        let message = SendRequest {
            message_id: MessageId(delivery.delivery.0),
            attempt: delivery.attempt.unsigned_abs(),
            number: &delivery.to,
            body: &delivery.body,
            traceparent: claimed.traceparent.as_deref(),
        };
        let verdict = self.provider.send(&account, &message).await;
        histogram!(metric::WHATICKET_LATENCY).record(began.elapsed().as_secs_f64());
        verdict
    }

    async fn finish(
        &self,
        tx: &Transaction<'_>,
        performed: &[Performed<'_, Delivery, Verdict>],
    ) -> Result<Vec<Ending>, Failure> {
        perform::end(tx, performed, &self.schedule, clock::now()).await
    }

    /// It is unknown whether the message was sent.
    fn expired_output(&self) -> Option<Verdict> {
        Some(Verdict::unknown("lease_ran_out"))
    }

    fn summary(&self, _: &Delivery, verdict: &Verdict) -> Summary {
        let result = match verdict {
            Verdict::Done => "sent",
            Verdict::Withdrawn => "withdrawn",
            Verdict::Temporary { .. } => "failed_temporary",
            Verdict::Permanent { .. } => "failed_permanent",
            Verdict::Unknown { .. } => "unknown",
        };
        Summary { result, class: verdict.class(), health: whaticket::health(verdict) }
    }

    fn committed(&self, performed: &Performed<'_, Delivery, Verdict>, _: &Ending) {
        perform::count(performed, &self.schedule);
    }
}
