//! reply's allowance: tokens that are reserved before a model call, and given back when the turn ends.
//!
//! Whether a company may still ask the model is decided inside Postgres, by the functions that SQL callers use too.
//! Tokens are reserved in the transaction of the claim, because the call comes after it; the real count is booked, and the
//! rest given back, in the transaction that ends the turn. A reservation whose turn never ends runs out by itself.

use std::time::Duration;

use domain::{CompanyId, TurnId};
use platform::columns;
use platform::postgres::{Failure, Transaction, execute, place, query};
use tokio_postgres::Error;

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

/// One model call that needs an allowance.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReservationRequest {
    pub(super) company: CompanyId,
    pub(super) turn: TurnId,
    /// Which claim of the turn.
    pub(super) claim: i32,
    /// Most tokens it may use.
    pub(super) tokens: i64,
}

// Not the functions that everybody has: these write a counter once for all calls of its company.
const RESERVE: &str = "\
select r.ord::bigint, r.allowed, r.reason
from secretaria.features_catalog f
cross join lateral secretaria_reference._reserve_many($1, f.feature, $2, make_interval(secs => $4), $3) r
where f.fact = 'model_tokens' and f.status <> 'archived'";

const GIVE_BACK: &str = "select secretaria_reference._release_many($1, $2)";

/// Reserves tokens for model calls, and gives back what earlier claims of their turns, whose workers died, still hold.
/// Where no feature counts tokens there is nothing to reserve. One answer per request, in order; counters are locked in
/// the order of the companies.
///
/// # Errors
/// If Postgres is away or refuses.
pub(super) async fn reserve(
    tx: &Transaction<'_>,
    requests: &[ReservationRequest],
    deadline: Duration,
) -> Result<Vec<Allowance>, Failure> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|it| (requests[*it].company, requests[*it].turn));
    let earlier = order.iter().map(|it| &requests[*it]).filter(|it| it.claim > 1);
    let earlier: Vec<(CompanyId, TurnId, i32)> = earlier.map(|it| (it.company, it.turn, it.claim - 1)).collect();
    give_back(tx, &earlier).await?;
    let asked: Vec<&ReservationRequest> = order.iter().map(|it| &requests[*it]).collect();
    let lives_s = (deadline + SPARE).as_secs_f64();
    let parameters = columns![asked => |it| it.company.0, it.tokens, key(it.turn, it.claim); &lives_s];
    let rows = query(tx, RESERVE, &parameters).await?;
    let mut allowances = vec![Allowance::Granted; requests.len()];
    for row in rows.iter().filter(|row| !row.get::<_, bool>(1)) {
        if let Some(request) = order.get(place(row)) {
            allowances[*request] = Allowance::Refused(row.get(2));
        }
    }
    Ok(allowances)
}

/// Gives back what these claims of turns, and those before them, still hold; what was used is booked beside it.
///
/// # Errors
/// If Postgres refuses.
pub(super) async fn give_back(tx: &Transaction<'_>, claims: &[(CompanyId, TurnId, i32)]) -> Result<(), Error> {
    if claims.is_empty() {
        return Ok(());
    }
    let keys = |&(company, turn, last): &(CompanyId, TurnId, i32)| (1..=last).map(move |it| (company.0, key(turn, it)));
    let held: Vec<(i64, String)> = claims.iter().flat_map(keys).collect();
    execute(tx, GIVE_BACK, &columns![held => |it| it.0, it.1.as_str()]).await?;
    Ok(())
}

fn key(turn: TurnId, claim: i32) -> String {
    format!("turn/{turn}/{claim}")
}
