//! alerts — notifies companies and the operator by signed webhooks.
//!
//! reads    `alerts`, key company
//! writes   `dead.letters`, through the outbox
//! owns     tables `webhook_deliveries`, `webhook_attempts`
//! repeats  safe, and repeated when in doubt: every call about an event has the same `webhook-id` and the same body,
//!          and the documentation tells receivers to expect it more than once
//!
//! An event goes to the company's receiver and to the operator's, where there is one; it has ended when both deliveries
//! have. Calls are independent: no order is kept, and none waits for another.

mod decide;
mod message;
mod store;
mod perform;
mod sender;
mod work;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use domain::{Alert, EventOutcome, IgnoreReason, Kind, ProcessorName, Topic};
use platform::consumer::{Event, Handled, Handler};
use platform::egress::Policy;
use platform::outcomes::Admission;
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Entry, Error, Removal};
use platform::queue::{self, Queue, Schedule};
use platform::secret::SecretText;
use platform::settings;
use platform::task::Stop;
use platform::webhook::Secret;
use serde::{Deserialize, Serialize};

/// The processor's entry in the list.
pub const PROCESSOR: Entry = Entry {
    queue: Some(QUEUE),
    removal: Removal::Refused(REMOVAL),
    list_settings: &["alerts.retry_after_s"],
    older_settings: &[("BILLING_ALERT_WEBHOOK_URL", "alerts.operator_webhook_url")],
    ..Entry::named("alerts", "tells companies and the operator of alerts, by signed webhooks", &[Topic::Alerts])
};

/// Why no job is removed by hand, and what to do instead.
const REMOVAL: &str = "an alert without its job is neither delivered nor a dead letter. `secretaria company webhook --off` \
     withdraws what waits for the company, and `secretaria dead-letters drop` settles what failed for good";

const QUEUE: Queue = Queue::named("alerts");

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The URL of the operator's receiver, which gets the alerts of every company. Empty: none.
    pub operator_webhook_url: String,
    /// What calls to it are signed with: `whsec_` and base64. Required with the URL.
    pub operator_webhook_secret: SecretText,
    /// The secret being rotated out; calls are signed with it too.
    pub operator_webhook_secret_previous: SecretText,
    /// Waits before the retries, in seconds; their number is the number of retries.
    pub retry_after_s: Vec<f64>,
    /// Multiplies every wait: below 1 for tests and demonstrations.
    pub time_scale: f64,
    /// The part of a wait that is added at random at most, from 0 to 1.
    pub jitter: f64,
    /// The longest one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// Allows receivers on private addresses, and on this machine without TLS. For development.
    pub allow_private: bool,
    pub runner: queue::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            operator_webhook_url: String::new(),
            operator_webhook_secret: SecretText::default(),
            operator_webhook_secret_previous: SecretText::default(),
            retry_after_s: vec![5.0, 30.0, 120.0, 900.0, 3_600.0, 21_600.0],
            time_scale: 1.0,
            jitter: 0.1,
            timeout_ms: 15_000,
            allow_private: false,
            // Receivers are other people's servers: slow ones must not take the capacity that the rest of the pipeline
            // needs.
            runner: queue::Config { window: 64, ..queue::Config::default() },
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        self.schedule().validate("alerts", 604_800.0)?;
        self.runner.validate("alerts.runner")?;
        if !(100..=60_000).contains(&self.timeout_ms) {
            return Err(settings::Error::invalid("alerts.timeout_ms", "must be between 100 and 60000"));
        }
        self.secrets().map(drop)?;
        if self.operator_webhook_url.is_empty() { Ok(()) } else { self.operator_address().map(drop) }
    }

    /// Checks what only a process that runs `alerts` needs.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate_to_run(&self) -> Result<(), settings::Error> {
        self.operator().map(drop)
    }

    /// How long calls under way may go on after a stop, in milliseconds.
    pub fn drain_ms(&self) -> u64 {
        self.runner.drain_ms
    }

    /// Which addresses may be called.
    pub fn policy(&self) -> Policy {
        if self.allow_private { Policy::Anywhere } else { Policy::Public }
    }

    fn schedule(&self) -> Schedule {
        Schedule { retry_after_s: self.retry_after_s.clone(), time_scale: self.time_scale, jitter: self.jitter }
    }

    /// The operator's receiver. It needs a secret: a call that is not signed proves nothing.
    fn operator(&self) -> Result<Option<sender::Receiver>, settings::Error> {
        if self.operator_webhook_url.is_empty() {
            return Ok(None);
        }
        let (url, secrets) = (self.operator_address()?, self.secrets()?);
        if self.operator_webhook_secret.is_empty() {
            return Err(settings::Error::invalid(SECRET, "required with `alerts.operator_webhook_url`"));
        }
        Ok(Some(sender::Receiver { url, secrets }))
    }

    fn operator_address(&self) -> Result<reqwest::Url, settings::Error> {
        self.policy().url(&self.operator_webhook_url).map_err(|_| {
            let problem = "must be https:// and a public host, without user and password; \
                           with `alerts.allow_private` also http:// on this machine";
            settings::Error::invalid("alerts.operator_webhook_url", problem)
        })
    }

    /// The operator's secrets, the current one first.
    fn secrets(&self) -> Result<Vec<Secret>, settings::Error> {
        let given = [(SECRET, &self.operator_webhook_secret), (PREVIOUS, &self.operator_webhook_secret_previous)];
        let read = |(key, text): (_, &SecretText)| {
            Secret::parse(text.expose()).map_err(|problem| settings::Error::invalid(key, problem.to_string()))
        };
        given.into_iter().filter(|(_, text)| !text.is_empty()).map(read).collect()
    }
}

const SECRET: &str = "alerts.operator_webhook_secret";
const PREVIOUS: &str = "alerts.operator_webhook_secret_previous";

/// Runs the consumer and the worker until stopped.
///
/// # Errors
/// If a client cannot be made, or the settings of the operator's receiver are invalid.
pub async fn run(context: Context, config: Config, stop: Stop) -> Result<(), Error> {
    let operator = config.operator()?;
    let handler = AlertHandler { operator: operator.is_some() };
    let work = work::Calling::new(&context, &config, operator)?;
    context.consume_and_work(handler, work, config.runner, stop).await
}

struct AlertHandler {
    /// Whether the operator has a receiver.
    operator: bool,
}

impl Handler for AlertHandler {
    type Payload = Alert;

    const PROCESSOR: ProcessorName = PROCESSOR.name;
    const TOPICS: &'static [Topic] = &[Topic::Alerts];
    const KINDS: &'static [Kind] = Kind::ALERTS;
    const QUEUE: Option<Queue> = PROCESSOR.queue;

    async fn handle(&self, tx: &Transaction<'_>, events: &[Event<'_, Self::Payload>]) -> Result<Handled, Failure> {
        let companies: BTreeSet<_> = events.iter().map(|it| it.envelope.company_id).collect();
        let companies = store::companies(tx, &companies).await?;
        let mut handled = Handled::default();
        for it in events {
            let mut jobs = Vec::new();
            if it.admission == Admission::Replayed {
                jobs = store::reopen(tx, &it.envelope).await?;
            }
            if jobs.is_empty() {
                let company = companies.get(&it.envelope.company_id);
                let body = message::body(&it.envelope, company.map_or("", |it| &it.domain));
                for endpoint in decide::endpoints(company.is_some_and(|it| it.has_webhook), self.operator) {
                    jobs.push(store::open(tx, it, endpoint, &body).await?);
                }
            }
            let outcome =
                if jobs.is_empty() { EventOutcome::Ignored(IgnoreReason::NoWebhook) } else { EventOutcome::InFlight };
            handled.outcomes.push(outcome);
            handled.jobs.append(&mut jobs);
        }
        Ok(handled)
    }
}
