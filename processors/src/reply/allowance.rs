//! reply's allowance: tokens that are reserved before a model call, and given back when the turn ends.
//!
//! Whether a company may still ask the model is decided inside Postgres, by the functions that SQL callers use too.
//! The reservation is its own transaction, because the call comes between; the real count is booked, and the rest given
//! back, in the transaction that ends the turn. A turn holds one reservation: a later claim first gives back what the
//! claims before it hold, because their results are void. A reservation whose turn never ends runs out by itself.

use std::time::Duration;

use domain::TurnId;
use platform::postgres::{Db, Failure, Transaction, execute, query};
use tokio_postgres::Error;

use super::claims::Claim;

/// How long a reservation outlives the deadline of the turn it is for.
const SPARE: Duration = Duration::from_secs(60);

/// What the quota functions said about one model call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowance {
    /// It may be made.
    Granted,
    /// It may not, for this reason.
    Refused(String),
}

const RESERVE: &str = "\
select r.allowed, r.reason
from secretaria.features_catalog f
cross join lateral reserve_feature_usage($1, f.feature, $2, make_interval(secs => $3), $4) r
where f.fact = 'model_tokens' and f.status <> 'archived'";

const GIVE_BACK: &str = "\
select release_reservation(r.company_id, r.reservation_id)
from secretaria.usage_reservations r
where r.company_id = $1 and r.idempotency_key = any($2) and r.state = 'held'";

/// Reserves tokens for a claim, and in the same transaction gives back what earlier claims of the turn hold; asked again
/// for the same claim it finds the same reservation. Where nothing counts tokens there is nothing to reserve.
///
/// # Errors
/// If Postgres is away or refuses.
pub(super) async fn reserve(db: &Db, claim: &Claim, tokens: i64, deadline: Duration) -> Result<Allowance, Failure> {
    let lives_s = (deadline + SPARE).as_secs_f64();
    let key = key(claim.turn, claim.claim);
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let earlier = claim.claim - 1;
    if earlier > 0 {
        give_back_until(&tx, claim, earlier).await?;
    }
    let rows = query(&tx, RESERVE, &[&claim.company.0, &tokens, &lives_s, &key]).await?;
    tx.commit().await?;
    Ok(match rows.first() {
        Some(row) if !row.get::<_, bool>(0) => Allowance::Refused(row.get(1)),
        Some(_) | None => Allowance::Granted,
    })
}

/// Gives back what this claim of a turn and those before it, whose holders died, still hold; what was used is booked
/// beside it.
///
/// # Errors
/// If Postgres refuses.
pub(super) async fn give_back(tx: &Transaction<'_>, claim: &Claim) -> Result<(), Error> {
    give_back_until(tx, claim, claim.claim).await
}

async fn give_back_until(tx: &Transaction<'_>, claim: &Claim, last: i32) -> Result<(), Error> {
    let keys: Vec<String> = (1..=last).map(|it| key(claim.turn, it)).collect();
    execute(tx, GIVE_BACK, &[&claim.company.0, &keys]).await?;
    Ok(())
}

fn key(turn: TurnId, claim: i32) -> String {
    format!("turn/{turn}/{claim}")
}
