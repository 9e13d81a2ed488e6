//! A fact as a line of the ledger. Pure.

use domain::{Envelope, UsageEvent};

use crate::ledger::LedgerLine;

pub(super) fn line(envelope: &Envelope<UsageEvent>) -> LedgerLine {
    LedgerLine {
        company: envelope.company_id,
        idempotency_key: envelope.event_id.to_string(),
        fact: envelope.payload.fact.clone(),
        occurred_at: envelope.occurred_at,
    }
}
