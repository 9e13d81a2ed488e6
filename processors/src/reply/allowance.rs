//! reply's allowance: tokens that are reserved before a model call, and given back when the turn ends.
//!
//! Whether a company may still ask the model is decided inside Postgres, by the functions that SQL callers use too.
//! The reservation is its own transaction, because the call comes between; the real count is booked, and the rest given
//! back, in the transaction that ends the turn. A reservation whose turn never ends runs out by itself.

use std::time::Duration;

use domain::CompanyId;
use platform::postgres::{Db, Failure, Transaction, execute, query};
use tokio_postgres::Error;
use uuid::Uuid;

use super::claims::Claim;

/// How long a reservation outlives the deadline of the turn it is for.
const SPARE: Duration = Duration::from_secs(60);

/// What the quota functions said about one model call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowance {
    /// It may be made. There is no reservation where tokens are not counted.
    Granted(Option<Uuid>),
    /// It may not, for this reason.
    Refused(String),
}

const RESERVE: &str = "\
select r.reservation_id, r.allowed, r.reason
from secretaria.features_catalog f
cross join lateral reserve_feature_usage($1, f.feature, $2, make_interval(secs => $3), $4) r
where f.fact = 'model_tokens' and f.status <> 'archived'";

/// Reserves tokens for a claim; asked again for the same claim it finds the same reservation.
///
/// # Errors
/// If Postgres is away or refuses.
pub(super) async fn reserve(db: &Db, claim: &Claim, tokens: i64, deadline: Duration) -> Result<Allowance, Failure> {
    let key = format!("turn/{}/{}", claim.turn, claim.claim);
    let lives_s = (deadline + SPARE).as_secs_f64();
    let rows = query(&db.get().await?, RESERVE, &[&claim.company.0, &tokens, &lives_s, &key]).await?;
    Ok(match rows.first() {
        None => Allowance::Granted(None),
        Some(row) if row.get(1) => Allowance::Granted(row.get(0)),
        Some(row) => Allowance::Refused(row.get(2)),
    })
}

/// Gives back what is still reserved; what was used is booked beside it.
///
/// # Errors
/// If Postgres refuses.
pub(super) async fn give_back(tx: &Transaction<'_>, company: CompanyId, reservation: Uuid) -> Result<(), Error> {
    execute(tx, "select release_reservation($1, $2)", &[&company.0, &reservation]).await?;
    Ok(())
}
