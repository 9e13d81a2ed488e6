//! alerts' SQL for the runner: claiming what is due, and where a company wants to be called.

use std::time::Duration;

use domain::{CompanyId, EventId};
use jiff::Timestamp;
use platform::postgres::{Db, Failure, GenericClient, execute, query};
use platform::runner::Claimed;
use tokio_postgres::Row;

use super::decide::Endpoint;

/// One claimed call: an attempt that has been written down and not yet made.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) company: CompanyId,
    pub(super) event: EventId,
    pub(super) endpoint: Endpoint,
    /// The attempt's number over all rounds; a result counts only while it is the latest.
    pub(super) attempt: i32,
    /// Attempts of this round, this one included.
    pub(super) of_round: i32,
    pub(super) body: String,
}

/// Names a claim.
pub(super) type Name = (CompanyId, EventId, Endpoint, i32);

const COLUMNS: &str =
    "d.company_id, d.event_id, d.endpoint, d.attempts, d.attempts - d.round_began_at as of_round, d.body";

fn read_claim(row: &Row) -> Claim {
    Claim {
        company: CompanyId(row.get(0)),
        event: EventId(row.get(1)),
        endpoint: Endpoint::named(row.get(2)),
        attempt: row.get(3),
        of_round: row.get(4),
        body: row.get(5),
    }
}

/// Claims what is due, one company after the other in turn, and writes the attempts down.
pub(super) async fn claim(db: &Db, most: usize, instance: &str, lease: Duration) -> Result<Claimed<Claim>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let claim = format!(
        "with recursive owners as (
           (select company_id from secretaria.webhook_deliveries where state = 'waiting' order by company_id limit 1)
           union all
           select (select d.company_id
                   from secretaria.webhook_deliveries d
                   where d.state = 'waiting' and d.company_id > owners.company_id
                   order by d.company_id
                   limit 1)
           from owners
           where owners.company_id is not null
         ), due as (
           select w.*
           from owners
           cross join lateral (
             select d.company_id, d.event_id, d.endpoint, d.due_at, row_number() over (order by d.due_at) as place
             from secretaria.webhook_deliveries d
             where d.company_id = owners.company_id and d.state = 'waiting' and d.due_at <= now()
             order by d.due_at
             limit $1
           ) w
         ), chosen as (
           select d.company_id, d.event_id, d.endpoint
           from due
           join secretaria.webhook_deliveries d using (company_id, event_id, endpoint)
           where d.state = 'waiting'
           order by due.place, due.due_at
           limit $1
           for update of d skip locked
         ), claimed as (
           update secretaria.webhook_deliveries d
           set state = 'calling', attempts = d.attempts + 1, claimed_by = $2,
             lease_until = now() + make_interval(secs => $3)
           from chosen
           where d.company_id = chosen.company_id and d.event_id = chosen.event_id and d.endpoint = chosen.endpoint
           returning {COLUMNS}
         ), noted as (
           insert into secretaria.webhook_attempts (company_id, event_id, endpoint, attempt, of_round)
           select company_id, event_id, endpoint, attempts, of_round from claimed
         )
         select * from claimed"
    );
    let rows = query(&tx, &claim, &[&most, &instance, &lease.as_secs_f64()]).await?;
    let next = query(
        &tx,
        "select extract(epoch from min(due_at) - now())::float8
         from secretaria.webhook_deliveries
         where state = 'waiting' and due_at > now()",
        &[],
    )
    .await?;
    tx.commit().await?;
    let next_due: Option<f64> = next.first().and_then(|row| row.get(0));
    Ok(Claimed {
        jobs: rows.iter().map(read_claim).collect(),
        next_due: next_due.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
    })
}

/// Attempts whose holder is gone.
pub(super) async fn abandoned(client: &impl GenericClient) -> Result<Vec<Claim>, Failure> {
    let sql = format!(
        "select {COLUMNS}
         from secretaria.webhook_deliveries d
         where d.state = 'calling' and d.lease_until < now()
         order by d.lease_until
         limit 100"
    );
    Ok(query(client, &sql, &[]).await?.iter().map(read_claim).collect())
}

/// Lets the claims of an earlier life of this instance run out at once.
pub(super) async fn take_back(db: &Db, instance: &str) -> Result<u64, Failure> {
    let sql = "update secretaria.webhook_deliveries
               set lease_until = now() - interval '1 second'
               where state = 'calling' and claimed_by = $1";
    Ok(execute(&db.get().await?, sql, &[&instance]).await?)
}

/// Keeps claims from running out. Locks in the order in which the shares of an event are locked elsewhere.
pub(super) async fn renew(db: &Db, claims: &[Name], lease: Duration) -> Result<(), Failure> {
    let companies: Vec<i64> = claims.iter().map(|it| it.0.0).collect();
    let events: Vec<uuid::Uuid> = claims.iter().map(|it| it.1.0).collect();
    let endpoints: Vec<&str> = claims.iter().map(|it| it.2.as_str()).collect();
    let attempts: Vec<i32> = claims.iter().map(|it| it.3).collect();
    execute(
        &db.get().await?,
        "with held as (
           select d.company_id, d.event_id, d.endpoint
           from unnest($1::bigint[], $2::uuid[], $3::text[], $4::int[]) as it (company_id, event_id, endpoint, attempt)
           join secretaria.webhook_deliveries d using (company_id, event_id, endpoint)
           where d.attempts = it.attempt and d.state = 'calling'
           order by d.company_id, d.event_id, d.endpoint
           for update of d
         )
         update secretaria.webhook_deliveries d
         set lease_until = now() + make_interval(secs => $5)
         from held
         where d.company_id = held.company_id and d.event_id = held.event_id and d.endpoint = held.endpoint",
        &[&companies, &events, &endpoints, &attempts, &lease.as_secs_f64()],
    )
    .await?;
    Ok(())
}

/// Where a company wants to be called, its secrets still sealed.
#[derive(Debug)]
pub(super) struct Webhook {
    pub(super) url: String,
    pub(super) secret: Vec<u8>,
    /// The one being rotated out, and until when it counts.
    pub(super) previous: Option<(Vec<u8>, Timestamp)>,
}

/// A company's receiver, if it has one and it is on.
pub(super) async fn webhook(db: &Db, company: CompanyId) -> Result<Option<Webhook>, Failure> {
    let rows = query(
        &db.get().await?,
        "select url, secret_sealed, previous_secret_sealed, previous_secret_until
         from secretaria.company_webhooks
         where company_id = $1 and enabled",
        &[&company.0],
    )
    .await?;
    Ok(rows.first().map(|row| Webhook {
        url: row.get(0),
        secret: row.get(1),
        previous: row.get::<_, Option<Vec<u8>>>(2).zip(row.get(3)),
    }))
}
