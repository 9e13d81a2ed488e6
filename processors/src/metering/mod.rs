//! metering — books what was used, once per fact.
//!
//! reads    `usage.events`, key company
//! calls    the bulk functions of the quota heart, which keep the ledger, its sums and the counters
//! repeats  safe: one mark per event, one ledger row per idempotency key, offsets in the same transaction
//!
//! There is no slow work here: everything is the intake's one transaction per poll. What reply has booked already comes
//! under the same key and changes nothing.

mod decide;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use domain::{Fact, Kind, Mark, ProcessorName, Topic, UsageEvent};
use metrics::counter;
use platform::intake::{self, Fresh, Intake};
use platform::metric;
use platform::postgres::{Failure, Transaction};
use platform::task::Stop;

use crate::ledger::{self, Line};
use crate::{Error, Ground};

/// Runs the intake until stopped.
///
/// # Errors
/// If librdkafka refuses the settings.
pub async fn run(ground: Ground, stop: Stop) -> Result<(), Error> {
    Ok(intake::run(Arc::new(Meter), ground.db, &ground.kafka, &ground.instance, stop).await?)
}

struct Meter;

impl Intake for Meter {
    type Payload = UsageEvent;

    const PROCESSOR: ProcessorName = ProcessorName::Metering;
    const TOPIC: Topic = Topic::UsageEvents;
    const KINDS: &'static [Kind] = &[Kind::Usage];

    async fn take(&self, tx: &Transaction<'_>, fresh: &[Fresh<'_, Self::Payload>]) -> Result<Vec<Mark>, Failure> {
        let lines: Vec<Line> = fresh.iter().map(|it| decide::line(&it.envelope)).collect();
        ledger::book(tx, &lines).await?;
        lines.iter().for_each(count);
        Ok(vec![Mark::Done; fresh.len()])
    }

    fn taken(&self) {}
}

fn count(line: &Line) {
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
