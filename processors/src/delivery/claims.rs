//! delivery's SQL for the runner: claiming the heads of conversations, and how to reach a company's channel.

use std::time::Duration;

use domain::{CompanyId, EventId, Purpose};
use platform::postgres::{Db, Failure, GenericClient, Transaction, execute, query};
use platform::runner::Claimed;
use tokio_postgres::Row;

use super::store;

/// One claimed delivery: an attempt that has been written down and not yet made.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) company: CompanyId,
    pub(super) delivery: EventId,
    /// The attempt's number over all rounds; a result counts only while it is the latest.
    pub(super) attempt: i32,
    /// Attempts of this round, this one included.
    pub(super) of_round: i32,
    pub(super) unknowns: i32,
    pub(super) purpose: Purpose,
    pub(super) to: String,
    pub(super) body: String,
    pub(super) traceparent: Option<String>,
}

const COLUMNS: &str =
    "d.company_id, d.delivery_id, d.attempts, d.attempts - d.round_began_at as of_round, d.unknowns, d.purpose,
  d.send_to, d.body, d.traceparent";

fn read_claim(row: &Row) -> Claim {
    Claim {
        company: CompanyId(row.get(0)),
        delivery: EventId(row.get(1)),
        attempt: row.get(2),
        of_round: row.get(3),
        unknowns: row.get(4),
        purpose: store::purpose(row.get(5)),
        to: row.get(6),
        body: row.get(7),
        traceparent: row.get(8),
    }
}

/// Claims due heads of conversations, one company after the other in turn, and writes their attempts down.
pub(super) async fn claim(db: &Db, most: usize, instance: &str, lease: Duration) -> Result<Claimed<Claim>, Failure> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let claim = format!(
        "with recursive owners as (
           (select company_id from secretaria.deliveries where state = 'waiting' order by company_id limit 1)
           union all
           select (select d.company_id
                   from secretaria.deliveries d
                   where d.state = 'waiting' and d.company_id > owners.company_id
                   order by d.company_id
                   limit 1)
           from owners
           where owners.company_id is not null
         ), due as (
           select h.*
           from owners
           cross join lateral (
             select w.company_id, w.delivery_id, w.due_at, row_number() over (order by w.due_at) as place
             from (
               select distinct on (d.conversation_id) d.company_id, d.delivery_id, d.state, d.due_at
               from secretaria.deliveries d
               where d.company_id = owners.company_id and d.state <> 'ended'
               order by d.conversation_id, d.position
             ) w
             where w.state = 'waiting' and w.due_at <= now()
             order by w.due_at
             limit $1
           ) h
         ), chosen as (
           select d.company_id, d.delivery_id
           from due
           join secretaria.deliveries d using (company_id, delivery_id)
           where d.state = 'waiting'
           order by due.place, due.due_at
           limit $1
           for update of d skip locked
         ), claimed as (
           update secretaria.deliveries d
           set state = 'sending', attempts = d.attempts + 1, claimed_by = $2,
             lease_until = now() + make_interval(secs => $3)
           from chosen
           where d.company_id = chosen.company_id and d.delivery_id = chosen.delivery_id
           returning {COLUMNS}
         ), noted as (
           insert into secretaria.delivery_attempts (company_id, delivery_id, attempt, of_round)
           select company_id, delivery_id, attempts, of_round from claimed
         )
         select * from claimed"
    );
    let rows = query(&tx, &claim, &[&most, &instance, &lease.as_secs_f64()]).await?;
    let next = query(
        &tx,
        "select extract(epoch from min(due_at) - now())::float8
         from secretaria.deliveries
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
         from secretaria.deliveries d
         where d.state = 'sending' and d.lease_until < now()
         order by d.lease_until
         limit 100"
    );
    Ok(query(client, &sql, &[]).await?.iter().map(read_claim).collect())
}

/// Whether an attempt is still abandoned; locks its delivery, and passes by one that somebody else is settling.
pub(super) async fn is_abandoned(tx: &Transaction<'_>, claim: &Claim) -> Result<bool, Failure> {
    let rows = query(
        tx,
        "select
         from secretaria.deliveries
         where company_id = $1 and delivery_id = $2 and attempts = $3 and state = 'sending' and lease_until < now()
         for update skip locked",
        &[&claim.company.0, &claim.delivery.0, &claim.attempt],
    )
    .await?;
    Ok(!rows.is_empty())
}

/// Lets the claims of an earlier life of this instance run out at once.
pub(super) async fn take_back(db: &Db, instance: &str) -> Result<u64, Failure> {
    let sql = "update secretaria.deliveries
               set lease_until = now() - interval '1 second'
               where state = 'sending' and claimed_by = $1";
    Ok(execute(&db.get().await?, sql, &[&instance]).await?)
}

/// Keeps claims from running out.
pub(super) async fn renew(db: &Db, claims: &[(CompanyId, EventId, i32)], lease: Duration) -> Result<(), Failure> {
    let (companies, deliveries, attempts) = store::arrays(claims);
    execute(
        &db.get().await?,
        "update secretaria.deliveries d
         set lease_until = now() + make_interval(secs => $4)
         from unnest($1::bigint[], $2::uuid[], $3::int[]) as it (company_id, delivery_id, attempt)
         where d.company_id = it.company_id and d.delivery_id = it.delivery_id and d.attempts = it.attempt
           and d.state = 'sending'",
        &[&companies, &deliveries, &attempts, &lease.as_secs_f64()],
    )
    .await?;
    Ok(())
}

/// How a company's channel is reached, its secrets still sealed.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) base_url: String,
    pub(super) credentials: Credentials,
}

/// Sealed credentials.
#[derive(Debug)]
pub(super) enum Credentials {
    /// A token that does not change.
    Token(Vec<u8>),
    /// A login that gives tokens.
    Login { email: String, password: Vec<u8> },
}

/// A company's Whaticket channel, if it has one.
pub(super) async fn channel(db: &Db, company: CompanyId) -> Result<Option<Channel>, Failure> {
    let rows = query(
        &db.get().await?,
        "select base_url, auth, token_sealed, login_email, login_password_sealed
         from secretaria.channels
         where company_id = $1 and channel = 'whaticket'",
        &[&company.0],
    )
    .await?;
    Ok(rows.first().and_then(|row| {
        let credentials = match row.get::<_, &str>(1) {
            "token" => Credentials::Token(row.get::<_, Option<Vec<u8>>>(2)?),
            _ => Credentials::Login {
                email: row.get::<_, Option<String>>(3)?,
                password: row.get::<_, Option<Vec<u8>>>(4)?,
            },
        };
        Some(Channel { base_url: row.get(0), credentials })
    }))
}
