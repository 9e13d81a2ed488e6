//! metering — books what was used, once per fact.
//!
//! reads    `usage.events`, key company
//! calls    the bulk functions of the quotas, which write the ledger, its sums and the counters
//! repeats  safe: one outcome per event, one ledger row per idempotency key, offsets in the same transaction
//!
//! There is no slow work: everything happens in the consumer's transaction, one per poll. What reply has booked already
//! arrives with the same key and changes nothing.

mod decide;
#[cfg(test)]
mod tests;

use domain::{EventOutcome, Fact, Kind, ProcessorName, Topic, UsageEvent};
use metrics::counter;
use platform::consumer::{Event, Handled, Handler};
use platform::metric;
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Entry, Error};
use platform::settings;
use platform::task::Stop;
use serde::{Deserialize, Serialize};

use crate::ledger::{self, LedgerLine};

/// The processor's entry in the list.
pub const PROCESSOR: Entry = Entry::named("metering", "books what was used", &[Topic::UsageEvents]);

/// Without settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Config {
    /// # Errors
    /// None: there is nothing to check.
    pub fn validate(&self) -> Result<(), settings::Error> {
        Ok(())
    }

    /// # Errors
    /// None: there is nothing to check.
    pub fn validate_to_run(&self) -> Result<(), settings::Error> {
        Ok(())
    }

    /// No time: there are no calls to wait for.
    pub fn drain_ms(&self) -> u64 {
        0
    }
}

/// Runs the consumer until stopped.
///
/// # Errors
/// If librdkafka refuses the settings.
pub async fn run(context: Context, _: Config, stop: Stop) -> Result<(), Error> {
    context.consume(UsageHandler, stop).await
}

struct UsageHandler;

impl Handler for UsageHandler {
    type Payload = UsageEvent;

    const PROCESSOR: ProcessorName = PROCESSOR.name;
    const TOPICS: &'static [Topic] = &[Topic::UsageEvents];
    const KINDS: &'static [Kind] = &[Kind::Usage];

    async fn handle(&self, tx: &Transaction<'_>, events: &[Event<'_, Self::Payload>]) -> Result<Handled, Failure> {
        let lines: Vec<LedgerLine> = events.iter().map(|it| decide::line(&it.envelope)).collect();
        ledger::book(tx, &lines).await?;
        lines.iter().for_each(count);
        Ok(vec![EventOutcome::Done; events.len()].into())
    }
}

fn count(line: &LedgerLine) {
    let company = metric::company_label(line.company);
    match &line.fact {
        Fact::ModelTokens { input, output, .. } => {
            let (read, written) = (input.unsigned_abs(), output.unsigned_abs());
            counter!(metric::USAGE_TOKENS, "company_id" => company.clone()).increment(read.saturating_add(written));
            counter!(metric::TOKEN_USAGE, "company" => company.clone(), "direction" => "input").increment(read);
            counter!(metric::TOKEN_USAGE, "company" => company, "direction" => "output").increment(written);
        }
        Fact::MessageIn | Fact::MessageOut => {
            counter!(metric::USAGE_MESSAGES, "company_id" => company).increment(1);
        }
    }
}
