//! reply — answers what contacts write, a turn at a time.
//!
//! reads    `inbound.messages`, key company/address
//! writes   `outbound.messages`, `usage.events` and `activity.events`, through the outbox
//! owns     table `turns`
//! repeats  safe: one outcome per event, one reply per turn, a result counts only while its lease holds
//!
//! The consumer stores a message and opens or extends its conversation's turn; after a quiet period the worker answers
//! the turn with one model call, for which the company's plan must have tokens left. If it fails, a fallback text is
//! sent instead.

mod decide;
mod perform;
mod allowance;
mod store;
mod context;
mod work;
mod prompt;
pub mod gemini;
#[cfg(test)]
pub(crate) mod tests;

use domain::{Kind, ProcessorName, Topic};
use platform::consumer::{Event, Handled, Handler};
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Entry, Error, Removal};
use platform::queue::{self, Queue};
use platform::settings;
use platform::task::Stop;
use serde::{Deserialize, Serialize};

/// The processor's entry in the list.
pub const PROCESSOR: Entry = Entry {
    queue: Some(QUEUE),
    removal: Removal::Refused(REMOVAL),
    ..Entry::named("reply", "answers what contacts write, a turn at a time", &[Topic::InboundMessages])
};

/// Why no job is removed by hand, and what to do instead.
const REMOVAL: &str = "a turn without its job is never answered. It ends by itself: with an answer, or with the \
     fallback when a claim has tried for `reply.deadline_ms`. `secretaria queue pause` holds it until then";

const QUEUE: Queue = Queue::named("reply");

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long after the contact's last message a turn is due, in milliseconds.
    pub quiet_ms: u64,
    /// How long after its first message a turn is due at the latest, in milliseconds.
    pub quiet_cap_ms: u64,
    /// The longest answering a turn may take, retries included, in milliseconds.
    pub deadline_ms: u64,
    /// Messages of the conversation that the model sees.
    pub memory_messages: u16,
    /// The text that is sent if there is no answer, unless the company has a text of its own.
    pub fallback_text: String,
    /// The text that is sent instead of an answer while the company is at the limit of its plan.
    pub limit_text: String,
    pub model: gemini::Config,
    pub runner: queue::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            quiet_ms: 2_000,
            quiet_cap_ms: 10_000,
            deadline_ms: 60_000,
            memory_messages: 12,
            fallback_text: "Recebemos sua mensagem! No momento não consigo responder por aqui, \
                            mas nossa equipe já vai falar com você."
                .into(),
            limit_text: "Recebemos sua mensagem! Nosso atendimento automático está pausado no momento, \
                         e nossa equipe responde assim que puder."
                .into(),
            model: gemini::Config::default(),
            runner: queue::Config::default(),
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), settings::Error> {
        if self.quiet_cap_ms < self.quiet_ms {
            return Err(settings::Error::invalid("reply.quiet_cap_ms", "must not be below reply.quiet_ms"));
        }
        if self.deadline_ms < 100 {
            return Err(settings::Error::invalid("reply.deadline_ms", "must be at least 100"));
        }
        if self.fallback_text.trim().is_empty() {
            return Err(settings::Error::invalid("reply.fallback_text", "must say something"));
        }
        if self.limit_text.trim().is_empty() {
            return Err(settings::Error::invalid("reply.limit_text", "must say something"));
        }
        if !(1..=100).contains(&self.memory_messages) {
            return Err(settings::Error::invalid("reply.memory_messages", "must be between 1 and 100"));
        }
        // The model's key is required only in a process that runs this.
        self.model.validate_shape()?;
        self.runner.validate("reply.runner")
    }

    /// Checks what only a process that runs this needs.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate_to_run(&self) -> Result<(), settings::Error> {
        self.model.validate()
    }

    /// How long calls under way may go on after a stop, in milliseconds.
    pub fn drain_ms(&self) -> u64 {
        self.runner.drain_ms
    }
}

/// Runs the consumer and the worker until stopped.
///
/// # Errors
/// If a client cannot be made.
pub async fn run(context: Context, config: Config, stop: Stop) -> Result<(), Error> {
    let work = work::ModelCalls::new(&context, &config)?;
    context
        .consume_and_work(InboundMessageHandler { quiet: store::QuietPeriod::from(&config) }, work, config.runner, stop)
        .await
}

struct InboundMessageHandler {
    quiet: store::QuietPeriod,
}

impl Handler for InboundMessageHandler {
    type Payload = domain::InboundMessage;

    const PROCESSOR: ProcessorName = PROCESSOR.name;
    const TOPICS: &'static [Topic] = &[Topic::InboundMessages];
    const KINDS: &'static [Kind] = &[Kind::InboundMessage];
    const QUEUE: Option<Queue> = PROCESSOR.queue;

    async fn handle(&self, tx: &Transaction<'_>, events: &[Event<'_, Self::Payload>]) -> Result<Handled, Failure> {
        queue::prefer_indexes(tx).await?;
        let statuses = store::company_statuses(tx, events.iter().map(|it| it.envelope.company_id)).await?;
        let action = |it: &Event<'_, Self::Payload>| {
            decide::on_message(&it.envelope.payload, statuses.get(&it.envelope.company_id).copied())
        };
        let actions: Vec<decide::MessageAction> = events.iter().map(action).collect();
        perform::collect(tx, events, &actions, &self.quiet).await
    }
}
