//! Booking usage: the quota functions write the ledger, its sums and the counters, each fact once.
//!
//! A fact is booked under the id of its event, so that it counts once, however often and by whichever processor it is
//! booked.
//! The search path finds the functions: the extension's where it is installed, else those in PL/pgSQL.

use domain::{CompanyId, Fact};
use jiff::Timestamp;
use platform::postgres::{Failure, Row, Transaction, query};

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LedgerLine {
    pub(crate) company: CompanyId,
    /// The event's id.
    pub(crate) idempotency_key: String,
    pub(crate) fact: Fact,
    pub(crate) occurred_at: Timestamp,
}

const MESSAGES: &str = "\
select ord, reason
from record_message_facts_bulk($1, $2, $3, $4)
where not accepted";

const TOKENS: &str = "\
select ord, reason
from increment_ai_usage_bulk($1, $2, $3, $4, $5, $6, $7)
where not accepted";

/// Books facts. A line whose key is already in the ledger with the same fact changes nothing.
///
/// A fact is never refused for a limit: what was used is recorded.
///
/// # Errors
/// If Postgres refuses the statement, or the functions refuse a line because its key is that of another fact or its
/// amount is invalid. A refused line blames the data; the caller must roll the transaction back.
pub(crate) async fn book(tx: &Transaction<'_>, lines: &[LedgerLine]) -> Result<(), Failure> {
    let (tokens, messages): (Vec<&LedgerLine>, Vec<&LedgerLine>) =
        lines.iter().partition(|it| matches!(it.fact, Fact::ModelTokens { .. }));
    if !messages.is_empty() {
        let facts: Vec<&str> = messages.iter().map(|it| it.fact.name()).collect();
        let rows =
            query(tx, MESSAGES, &[&companies(&messages), &facts, &keys(&messages), &instants(&messages)]).await?;
        none_refused(&rows, &messages)?;
    }
    if !tokens.is_empty() {
        let (mut models, mut inputs, mut outputs, mut cached_inputs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for line in &tokens {
            if let Fact::ModelTokens { model, input, output, cached } = &line.fact {
                models.push(model.as_str());
                inputs.push(*input);
                outputs.push(*output);
                cached_inputs.push(*cached);
            }
        }
        let (companies, keys, instants) = (companies(&tokens), keys(&tokens), instants(&tokens));
        let rows =
            query(tx, TOKENS, &[&companies, &models, &inputs, &outputs, &cached_inputs, &keys, &instants]).await?;
        none_refused(&rows, &tokens)?;
    }
    Ok(())
}

fn companies(lines: &[&LedgerLine]) -> Vec<i64> {
    lines.iter().map(|it| it.company.0).collect()
}

fn keys<'a>(lines: &[&'a LedgerLine]) -> Vec<&'a str> {
    lines.iter().map(|it| it.idempotency_key.as_str()).collect()
}

fn instants(lines: &[&LedgerLine]) -> Vec<Timestamp> {
    lines.iter().map(|it| it.occurred_at).collect()
}

fn none_refused(refused: &[Row], lines: &[&LedgerLine]) -> Result<(), Failure> {
    let Some(row) = refused.first() else { return Ok(()) };
    let ordinal = usize::try_from(row.get::<_, i32>(0)).unwrap_or_default();
    let event = ordinal.checked_sub(1).and_then(|it| lines.get(it)).map_or("", |it| it.idempotency_key.as_str());
    Err(Failure::Refused(format!("event {event} cannot be booked: {}", row.get::<_, &str>(1))))
}
