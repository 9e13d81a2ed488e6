//! delivery's SQL: deliveries and their attempts.

use domain::{CompanyId, EventId, OutboundMessage, Purpose, Topic, header};
use platform::intake::Fresh;
use platform::kafka::Record;
use platform::marks::Standing;
use platform::park::{self, Parcel};
use platform::postgres::{Transaction, execute, query};
use tokio_postgres::Error;
use uuid::Uuid;

use super::claims::Claim;

/// The name of a purpose in `deliveries.purpose`.
pub(super) fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Reply => "reply",
    }
}

/// A message to be delivered; one that comes back from the shelf gets its whole schedule again.
pub(super) async fn open(tx: &Transaction<'_>, fresh: &Fresh<'_, OutboundMessage>) -> Result<(), Error> {
    let message = &fresh.envelope.payload;
    let company = fresh.envelope.company_id;
    if fresh.standing == Standing::Reopened && reopen(tx, company, fresh.envelope.event_id).await? {
        return Ok(());
    }
    let record = fresh.record;
    execute(
        tx,
        "insert into secretaria.deliveries
           (company_id, delivery_id, conversation_id, position, channel, send_to, body, purpose, state, due_at,
            traceparent, record_partition, record_offset, record_key, record_headers, record_payload)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', now(), $9, $10, $11, $12, $13, $14)",
        &[
            &company.0,
            &fresh.envelope.event_id.0,
            &message.conversation_id.0,
            &message.position,
            &message.channel.as_str(),
            &message.to,
            &message.body,
            &purpose_name(message.purpose),
            &record.header_text(header::TRACEPARENT),
            &record.partition,
            &record.offset,
            &record.key,
            &park::headers_as_json(&record.headers),
            &record.payload,
        ],
    )
    .await?;
    Ok(())
}

async fn reopen(tx: &Transaction<'_>, company: CompanyId, event: EventId) -> Result<bool, Error> {
    let touched = execute(
        tx,
        "update secretaria.deliveries
         set state = 'waiting', outcome = null, ended_at = null, due_at = now(), round_began_at = attempts, unknowns = 0
         where company_id = $1 and delivery_id = $2 and state = 'ended' and outcome = 'failed_permanent'",
        &[&company.0, &event.0],
    )
    .await?;
    Ok(touched == 1)
}

/// Completes an attempt; one that was completed already stays as it is.
pub(super) async fn end_attempt(
    tx: &Transaction<'_>,
    claim: &Claim,
    result: &str,
    class: Option<&str>,
) -> Result<(), Error> {
    execute(
        tx,
        "update secretaria.delivery_attempts
         set ended_at = now(), result = $4, class = $5
         where company_id = $1 and delivery_id = $2 and attempt = $3 and result is null",
        &[&claim.company.0, &claim.delivery.0, &claim.attempt, &result, &class],
    )
    .await?;
    Ok(())
}

/// Where a delivery goes after an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Move {
    /// To its end.
    End(&'static str),
    /// Back to waiting, for so many seconds.
    Wait(f64),
}

/// Moves a delivery on if this attempt is still its latest; says whether it was.
pub(super) async fn move_on(tx: &Transaction<'_>, claim: &Claim, to: Move, unknown: i32) -> Result<bool, Error> {
    let (state, outcome, wait_s) = match to {
        Move::End(outcome) => ("ended", Some(outcome), 0.0),
        Move::Wait(seconds) => ("waiting", None, seconds),
    };
    let touched = execute(
        tx,
        "update secretaria.deliveries
         set state = $4, outcome = $5, lease_until = null, unknowns = unknowns + $7,
           due_at = now() + make_interval(secs => $6),
           ended_at = case when $4 = 'ended' then now() end,
           record_key = case when $5 = 'sent' then null else record_key end,
           record_headers = case when $5 = 'sent' then null else record_headers end,
           record_payload = case when $5 = 'sent' then null else record_payload end
         where company_id = $1 and delivery_id = $2 and attempts = $3 and state = 'sending'",
        &[&claim.company.0, &claim.delivery.0, &claim.attempt, &state, &outcome, &wait_s, &unknown],
    )
    .await?;
    Ok(touched == 1)
}

/// The record a delivery came in, to be parked with it.
pub(super) async fn record(tx: &Transaction<'_>, claim: &Claim) -> Result<Option<Record>, Error> {
    let rows = query(
        tx,
        "select record_partition, record_offset, record_key, record_payload, record_headers
         from secretaria.deliveries
         where company_id = $1 and delivery_id = $2",
        &[&claim.company.0, &claim.delivery.0],
    )
    .await?;
    Ok(rows.first().map(|row| {
        let headers = row.get::<_, Option<serde_json::Value>>(4).unwrap_or_default();
        Record::kept(row.get(0), row.get(1), row.get(2), row.get(3), park::headers_from_json(&headers))
    }))
}

/// The parcel of a delivery that is given up.
pub(super) fn parcel<'a>(claim: &Claim, record: &'a Record) -> Parcel<'a> {
    Parcel { company: claim.company, event: claim.delivery, topic: Topic::OutboundMessages, record }
}

/// The purpose of that name; the table's own check admits no other.
pub(super) fn purpose(name: &str) -> Purpose {
    debug_assert_eq!(name, purpose_name(Purpose::Reply));
    Purpose::Reply
}

/// The ids of claims, for a statement about many.
pub(super) fn arrays(claims: &[(CompanyId, EventId, i32)]) -> (Vec<i64>, Vec<Uuid>, Vec<i32>) {
    (
        claims.iter().map(|it| it.0.0).collect(),
        claims.iter().map(|it| it.1.0).collect(),
        claims.iter().map(|it| it.2).collect(),
    )
}
