//! metering — books what was used, once per fact.
//!
//! reads    `usage.events`, key company
//! owns     tables `usage_events` (the ledger) and `usage_totals` (its sums)
//! repeats  safe: one mark per event, one ledger row per idempotency key, offsets in the same transaction
//!
//! There is no slow work here: everything is the intake's one transaction per poll.

mod decide;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use domain::{Kind, Mark, ProcessorName, Topic, UsageEvent};
use metrics::counter;
use platform::intake::{self, Fresh, Intake};
use platform::metric;
use platform::postgres::{Failure, Transaction};
use platform::task::Stop;

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
    const KIND: Kind = Kind::Usage;

    async fn take(&self, tx: &Transaction<'_>, fresh: &[Fresh<'_, Self::Payload>]) -> Result<Vec<Mark>, Failure> {
        let lines: Vec<decide::Line> = fresh.iter().map(|it| decide::line(&it.envelope)).collect();
        store::book(tx, &lines).await?;
        lines.iter().for_each(count);
        Ok(vec![Mark::Done; fresh.len()])
    }

    fn taken(&self) {}
}

fn count(line: &decide::Line) {
    let company = metric::company_label(line.company);
    if line.tokens_in + line.tokens_out > 0 {
        let (read, written) = (line.tokens_in.unsigned_abs(), line.tokens_out.unsigned_abs());
        counter!(metric::USAGE_TOKENS, "company_id" => company.clone()).increment(read + written);
        counter!(metric::TOKEN_USAGE, "company" => company.clone(), "direction" => "input").increment(read);
        counter!(metric::TOKEN_USAGE, "company" => company, "direction" => "output").increment(written);
    } else {
        counter!(metric::USAGE_MESSAGES, "company_id" => company).increment(line.amount.unsigned_abs());
    }
}
