//! alerts' SQL: the deliveries of each event, one per receiver, their attempts, and the companies' webhooks.
//!
//! The deliveries of one event are always locked in one statement, in the order of their endpoints, so that the last
//! one to end knows that it is the last; those of several events in the order of company and event.

use std::collections::{BTreeSet, HashMap};

use domain::{Alert, CompanyId, Envelope, EventId, Topic};
use jiff::Timestamp;
use platform::attempt::{AttemptResult, Outcome};
use platform::columns;
use platform::consumer::Event;
use platform::dead_letter::{self, RecordTable};
use platform::postgres::{GenericClient, Row, Transaction, execute, in_order, query};
use platform::queue::{Claimed, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Error;
use uuid::Uuid;

use super::decide::{Endpoint, ReceiverResponse};

/// The table that keeps the records of events.
pub(super) const RECORDS: RecordTable =
    RecordTable { table: "webhook_deliveries", id: "event_id", topic: Topic::Alerts };

/// The name of a success in `webhook_deliveries.outcome`.
const DELIVERED: &str = "delivered";

/// One call to be made.
#[derive(Debug, Clone)]
pub(super) struct WebhookCall {
    pub(super) company: CompanyId,
    pub(super) event: EventId,
    pub(super) endpoint: Endpoint,
    /// The latest attempt's number over all rounds.
    pub(super) attempt: i32,
    /// Attempts of this round, the latest included.
    pub(super) of_round: i32,
    pub(super) body: String,
    /// The company's webhook; `None` for the operator's endpoint, and where the company has none that is enabled.
    pub(super) webhook: Option<SealedWebhook>,
}

/// A company's webhook, its secrets still sealed.
#[derive(Debug, Clone)]
pub(super) struct SealedWebhook {
    pub(super) url: String,
    pub(super) secret: Vec<u8>,
    /// The secret being rotated out, and until when calls are signed with it too.
    pub(super) previous: Option<(Vec<u8>, Timestamp)>,
}

/// The body of a job.
#[derive(Debug, Serialize, Deserialize)]
struct JobBody {
    event: Uuid,
    endpoint: String,
}

/// The job of one delivery. The keys of one event's jobs are adjacent, so that groups lock events in one order.
fn job(company: CompanyId, event: EventId, endpoint: Endpoint) -> NewJob {
    let key = Uuid::from_u128(event.0.as_u128() ^ endpoint as u128);
    let body = json!(JobBody { event: event.0, endpoint: endpoint.as_str().to_owned() });
    NewJob { body, ..NewJob::new(company, key) }
}

/// The company of an event, as the event's deliveries need it.
pub(super) struct AlertedCompany {
    pub(super) domain: String,
    pub(super) has_webhook: bool,
}

/// The companies with these ids; unknown ones are absent.
pub(super) async fn companies(
    client: &impl GenericClient,
    ids: &BTreeSet<CompanyId>,
) -> Result<HashMap<CompanyId, AlertedCompany>, Error> {
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
    let company = |row: &Row| AlertedCompany { domain: row.get(1), has_webhook: row.get(2) };
    Ok(rows.iter().map(|row| (CompanyId(row.get(0)), company(row))).collect())
}

/// Makes a delivery of an event to one endpoint; returns its job.
pub(super) async fn open(
    tx: &Transaction<'_>,
    event: &Event<'_, Alert>,
    endpoint: Endpoint,
    body: &str,
) -> Result<NewJob, Error> {
    let record = event.record;
    execute(
        tx,
        "insert into secretaria.webhook_deliveries
           (company_id, event_id, endpoint, kind, body, state,
            record_partition, record_offset, record_key, record_headers, record_payload)
         values ($1, $2, $3, $4, $5, 'waiting', $6, $7, $8, $9, $10)",
        &[
            &event.envelope.company_id.0,
            &event.envelope.event_id.0,
            &endpoint.as_str(),
            &event.envelope.kind.as_str(),
            &body,
            &record.partition,
            &record.offset,
            &record.key,
            &dead_letter::headers_as_json(&record.headers),
            &record.payload,
        ],
    )
    .await?;
    Ok(job(event.envelope.company_id, event.envelope.event_id, endpoint))
}

/// Starts failed deliveries of an event again, with their whole schedule; returns their jobs, none if none had failed.
pub(super) async fn reopen(tx: &Transaction<'_>, envelope: &Envelope<Alert>) -> Result<Vec<NewJob>, Error> {
    let rows = query(
        tx,
        "update secretaria.webhook_deliveries
         set state = 'waiting', outcome = null, cause = null, ended_at = null, round_began_at = attempts
         where company_id = $1 and event_id = $2 and state = 'ended' and outcome = 'failed_permanent'
         returning endpoint",
        &[&envelope.company_id.0, &envelope.event_id.0],
    )
    .await?;
    Ok(rows.iter().map(|row| job(envelope.company_id, envelope.event_id, Endpoint::named(row.get(0)))).collect())
}

/// The calls of claimed jobs, in their order; `None` for one whose delivery has ended.
pub(super) async fn load(tx: &Transaction<'_>, claimed: &[Claimed]) -> Result<Vec<Option<WebhookCall>>, Error> {
    let body = |it: &Claimed| (it.company(), serde_json::from_value::<JobBody>(it.body.clone()).ok());
    let asked: Vec<(CompanyId, Option<JobBody>)> = claimed.iter().map(body).collect();
    let rows = query(
        tx,
        "select it.ord, d.company_id, d.event_id, d.endpoint, d.attempts, d.attempts - d.round_began_at, d.body,
           w.url, w.secret_sealed, w.previous_secret_sealed, w.previous_secret_until
         from unnest($1::bigint[], $2::uuid[], $3::text[]) with ordinality as it (company_id, event_id, endpoint, ord)
         join secretaria.webhook_deliveries d using (company_id, event_id, endpoint)
         left join secretaria.company_webhooks w
           on w.company_id = d.company_id and w.enabled and d.endpoint = 'company'
         where d.state <> 'ended'",
        &columns![asked => |it|
            it.0.0, it.1.as_ref().map(|it| it.event), it.1.as_ref().map(|it| it.endpoint.as_str())],
    )
    .await?;
    let webhook = |row: &Row| {
        let previous = row.get::<_, Option<Vec<u8>>>(9).zip(row.get(10));
        row.get::<_, Option<String>>(7).map(|url| SealedWebhook { url, secret: row.get(8), previous })
    };
    let call = |row: &Row| WebhookCall {
        company: CompanyId(row.get(1)),
        event: EventId(row.get(2)),
        endpoint: Endpoint::named(row.get(3)),
        attempt: row.get(4),
        of_round: row.get(5),
        body: row.get(6),
        webhook: webhook(row),
    };
    Ok(in_order(claimed.len(), &rows, call))
}

/// Stores attempts before they are made.
pub(super) async fn begin_attempts(
    tx: &Transaction<'_>,
    starting: &mut [(&Claimed, &mut WebhookCall)],
) -> Result<(), Error> {
    execute(
        tx,
        "with held as materialized (
           select d.company_id, d.event_id, d.endpoint
           from unnest($1::bigint[], $2::uuid[], $3::text[]) as it (company_id, event_id, endpoint)
           join secretaria.webhook_deliveries d using (company_id, event_id, endpoint)
           order by d.company_id, d.event_id, d.endpoint
           for update of d
         ), begun as (
           update secretaria.webhook_deliveries d
           set state = 'calling', attempts = d.attempts + 1
           from held it
           where d.company_id = it.company_id and d.event_id = it.event_id and d.endpoint = it.endpoint
           returning d.company_id, d.event_id, d.endpoint, d.attempts, d.attempts - d.round_began_at as of_round
         )
         insert into secretaria.webhook_attempts (company_id, event_id, endpoint, attempt, of_round)
         select company_id, event_id, endpoint, attempts, of_round from begun",
        &columns![starting => |(_, it)| it.company.0, it.event.0, it.endpoint.as_str()],
    )
    .await?;
    for (_, call) in starting {
        call.attempt += 1;
        call.of_round += 1;
    }
    Ok(())
}

/// The delivery of an event to one endpoint.
#[derive(Debug, Clone)]
pub(super) struct WebhookDelivery {
    pub(super) endpoint: Endpoint,
    /// Attempts of this round.
    pub(super) of_round: i32,
    /// How it ended, if it has.
    pub(super) outcome: Option<Outcome>,
    /// The class of the last failure, if it failed for good.
    pub(super) cause: Option<String>,
}

/// Every delivery of a call's event, locked until the transaction ends.
pub(super) async fn lock_deliveries(tx: &Transaction<'_>, call: &WebhookCall) -> Result<Vec<WebhookDelivery>, Error> {
    let rows = query(
        tx,
        "select endpoint, attempts - round_began_at, outcome, cause
         from secretaria.webhook_deliveries
         where company_id = $1 and event_id = $2
         order by endpoint
         for update",
        &[&call.company.0, &call.event.0],
    )
    .await?;
    let delivery = |row: &Row| WebhookDelivery {
        endpoint: Endpoint::named(row.get(0)),
        of_round: row.get(1),
        outcome: row.get::<_, Option<&str>>(2).map(|it| Outcome::named(it, DELIVERED)),
        cause: row.get(3),
    };
    Ok(rows.iter().map(delivery).collect())
}

/// Ends a delivery, with the cause if it failed for good; without an outcome it waits for its next attempt.
pub(super) async fn set_outcome(
    tx: &Transaction<'_>,
    call: &WebhookCall,
    outcome: Option<Outcome>,
    cause: Option<&str>,
) -> Result<(), Error> {
    let state = if outcome.is_some() { "ended" } else { "waiting" };
    execute(
        tx,
        "update secretaria.webhook_deliveries
         set state = $4, outcome = $5, cause = $6,
           ended_at = case when $4 = 'ended' then now() end,
           record_key = case when $5 <> 'failed_permanent' then null else record_key end,
           record_headers = case when $5 <> 'failed_permanent' then null else record_headers end,
           record_payload = case when $5 <> 'failed_permanent' then null else record_payload end
         where company_id = $1 and event_id = $2 and endpoint = $3",
        &[
            &call.company.0,
            &call.event.0,
            &call.endpoint.as_str(),
            &state,
            &outcome.map(|it| it.name(DELIVERED)),
            &cause,
        ],
    )
    .await?;
    Ok(())
}

/// Completes an attempt; one that was completed already stays as it is.
pub(super) async fn end_attempt(
    tx: &Transaction<'_>,
    call: &WebhookCall,
    result: AttemptResult,
    response: &ReceiverResponse,
) -> Result<(), Error> {
    let status = response.status.and_then(|it| i16::try_from(it).ok());
    execute(
        tx,
        "update secretaria.webhook_attempts
         set ended_at = now(), result = $5, status = $6, class = $7
         where company_id = $1 and event_id = $2 and endpoint = $3 and attempt = $4 and result is null",
        &[
            &call.company.0,
            &call.event.0,
            &call.endpoint.as_str(),
            &call.attempt,
            &result.name("DELIVERED"),
            &status,
            &response.verdict.class(),
        ],
    )
    .await?;
    Ok(())
}
