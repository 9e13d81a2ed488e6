//! alerts' SQL: what each receiver is told of each event, and every attempt at it.
//!
//! Rows of one event are always locked together, in the order of their endpoints, so that the last one to end knows it.

use std::collections::{BTreeSet, HashMap};

use domain::{Alert, CompanyId, Envelope, EventId, Topic};
use platform::intake::Fresh;
use platform::kafka::Record;
use platform::park::{self, Parcel};
use platform::postgres::{GenericClient, Transaction, execute, query};
use tokio_postgres::Error;

use super::claims::Claim;
use super::decide::{Endpoint, Outcome};
use super::verdict::Class;

/// What is known of a company when an event of it comes in.
pub(super) struct Company {
    pub(super) domain: String,
    pub(super) has_webhook: bool,
}

/// The companies of that id.
pub(super) async fn companies(
    client: &impl GenericClient,
    ids: &BTreeSet<CompanyId>,
) -> Result<HashMap<CompanyId, Company>, Error> {
    let ids: Vec<i64> = ids.iter().map(|it| it.0).collect();
    let rows = query(
        client,
        "select c.company_id, c.domain, coalesce(w.enabled, false)
         from secretaria.companies c
         left join secretaria.company_webhooks w using (company_id)
         where c.company_id = any($1)",
        &[&ids],
    )
    .await?;
    let company = |row: &tokio_postgres::Row| Company { domain: row.get(1), has_webhook: row.get(2) };
    Ok(rows.iter().map(|row| (CompanyId(row.get(0)), company(row))).collect())
}

/// What one receiver is to be told of an event.
pub(super) async fn open(
    tx: &Transaction<'_>,
    fresh: &Fresh<'_, Alert>,
    endpoint: Endpoint,
    body: &str,
) -> Result<(), Error> {
    let record = fresh.record;
    execute(
        tx,
        "insert into secretaria.webhook_deliveries
           (company_id, event_id, endpoint, kind, body, state, due_at,
            record_partition, record_offset, record_key, record_headers, record_payload)
         values ($1, $2, $3, $4, $5, 'waiting', now(), $6, $7, $8, $9, $10)",
        &[
            &fresh.envelope.company_id.0,
            &fresh.envelope.event_id.0,
            &endpoint.as_str(),
            &fresh.envelope.kind.as_str(),
            &body,
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

/// Gives those that were given up their whole schedule again; says whether there were any.
pub(super) async fn reopen(tx: &Transaction<'_>, envelope: &Envelope<Alert>) -> Result<bool, Error> {
    let touched = execute(
        tx,
        "update secretaria.webhook_deliveries
         set state = 'waiting', outcome = null, cause = null, ended_at = null, due_at = now(), round_began_at = attempts
         where company_id = $1 and event_id = $2 and state = 'ended' and outcome = 'failed_permanent'",
        &[&envelope.company_id.0, &envelope.event_id.0],
    )
    .await?;
    Ok(touched > 0)
}

/// One receiver's share of an event.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) endpoint: Endpoint,
    /// Attempts of this round.
    pub(super) of_round: i32,
    /// How it ended, if it has.
    pub(super) outcome: Option<Outcome>,
    /// Why it was given up, if it was.
    pub(super) cause: Option<Class>,
    /// Whether the attempt that is asked about is still its latest.
    pub(super) is_latest: bool,
    /// Whether that attempt's holder is gone.
    pub(super) is_abandoned: bool,
}

/// Every share of the event of an attempt, held until the transaction ends.
pub(super) async fn hold(tx: &Transaction<'_>, claim: &Claim) -> Result<Vec<Share>, Error> {
    let rows = query(
        tx,
        "select endpoint, attempts - round_began_at, outcome, cause,
           endpoint = $3 and state = 'calling' and attempts = $4, coalesce(lease_until < now(), false)
         from secretaria.webhook_deliveries
         where company_id = $1 and event_id = $2
         order by endpoint
         for update",
        &[&claim.company.0, &claim.event.0, &claim.endpoint.as_str(), &claim.attempt],
    )
    .await?;
    let share = |row: &tokio_postgres::Row| Share {
        endpoint: Endpoint::named(row.get(0)),
        of_round: row.get(1),
        outcome: row.get::<_, Option<&str>>(2).map(Outcome::named),
        cause: row.get::<_, Option<&str>>(3).and_then(Class::named),
        is_latest: row.get(4),
        is_abandoned: row.get(5),
    };
    Ok(rows.iter().map(share).collect())
}

/// Where a share goes after an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Move {
    /// To its end, with the reason if it was given up.
    End(Outcome, Option<Class>),
    /// Back to waiting, for so many seconds.
    Wait(f64),
}

/// Moves a share on; the caller holds it and knows that the attempt is its latest.
pub(super) async fn move_on(tx: &Transaction<'_>, claim: &Claim, to: Move) -> Result<(), Error> {
    let (state, outcome, cause, wait_s) = match to {
        Move::End(outcome, cause) => ("ended", Some(outcome.as_str()), cause.map(Class::as_str), 0.0),
        Move::Wait(seconds) => ("waiting", None, None, seconds),
    };
    execute(
        tx,
        "update secretaria.webhook_deliveries
         set state = $4, outcome = $5, cause = $6, lease_until = null, due_at = now() + make_interval(secs => $7),
           ended_at = case when $4 = 'ended' then now() end,
           record_key = case when $5 <> 'failed_permanent' then null else record_key end,
           record_headers = case when $5 <> 'failed_permanent' then null else record_headers end,
           record_payload = case when $5 <> 'failed_permanent' then null else record_payload end
         where company_id = $1 and event_id = $2 and endpoint = $3",
        &[&claim.company.0, &claim.event.0, &claim.endpoint.as_str(), &state, &outcome, &cause, &wait_s],
    )
    .await?;
    Ok(())
}

/// Completes an attempt; one that was completed already stays as it is.
pub(super) async fn end_attempt(
    tx: &Transaction<'_>,
    claim: &Claim,
    result: &str,
    status: Option<u16>,
    class: Option<Class>,
) -> Result<(), Error> {
    let status = status.and_then(|it| i16::try_from(it).ok());
    execute(
        tx,
        "update secretaria.webhook_attempts
         set ended_at = now(), result = $5, status = $6, class = $7
         where company_id = $1 and event_id = $2 and endpoint = $3 and attempt = $4 and result is null",
        &[
            &claim.company.0,
            &claim.event.0,
            &claim.endpoint.as_str(),
            &claim.attempt,
            &result,
            &status,
            &class.map(Class::as_str),
        ],
    )
    .await?;
    Ok(())
}

/// The record an event came in, to be parked with it.
pub(super) async fn record(tx: &Transaction<'_>, company: CompanyId, event: EventId) -> Result<Option<Record>, Error> {
    let rows = query(
        tx,
        "select record_partition, record_offset, record_key, record_payload, record_headers
         from secretaria.webhook_deliveries
         where company_id = $1 and event_id = $2 and outcome = 'failed_permanent'
         order by endpoint
         limit 1",
        &[&company.0, &event.0],
    )
    .await?;
    Ok(rows.first().map(|row| {
        let headers = row.get::<_, Option<serde_json::Value>>(4).unwrap_or_default();
        Record::kept(row.get(0), row.get(1), row.get(2), row.get(3), park::headers_from_json(&headers))
    }))
}

/// The parcel of an event that is given up.
pub(super) fn parcel<'a>(claim: &Claim, record: &'a Record) -> Parcel<'a> {
    Parcel { company: claim.company, event: claim.event, topic: Topic::Alerts, record }
}
