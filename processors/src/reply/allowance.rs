//! reply's allowance: tokens that are reserved before a model call, and released when the turn ends.
//!
//! Postgres decides whether a company may still call the model, by the same limits that SQL callers meet. Tokens are
//! reserved in the transaction of the claim, because the call comes after it; in the transaction that ends the turn the
//! used tokens are booked and the reservation is released. A reservation whose turn never ends expires.

use std::time::Duration;

use domain::{CompanyId, TurnId};
use platform::columns;
use platform::postgres::{Failure, Transaction, execute, ordinal, query};
use tokio_postgres::Error;

/// How long after its turn's deadline a reservation expires.
const SPARE: Duration = Duration::from_secs(60);

/// Whether one model call may be made, as the quota functions decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowance {
    Granted,
    /// It may not be made, for this reason of the quota functions.
    Denied(String),
}

/// A reservation of tokens for one model call.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReservationRequest {
    pub(super) company: CompanyId,
    pub(super) turn: TurnId,
    /// The claim's number within the turn, from 1.
    pub(super) claim: i32,
    /// The most tokens that one call may use.
    pub(super) tokens: i64,
}

// Not the functions for all callers: these write a counter once for all calls of its company.
const RESERVE: &str = "\
select r.ord::bigint, r.allowed, r.reason
from secretaria.features_catalog f
cross join lateral secretaria_reference._reserve_many($1, f.feature, $2, make_interval(secs => $4), $3) r
where f.fact = 'model_tokens' and f.status <> 'archived'";

const RELEASE: &str = "select secretaria_reference._release_many($1, $2)";

/// Reserves tokens for model calls, and releases the reservations of earlier claims of their turns, whose workers died.
/// Where no feature counts tokens, every call is granted. Returns one allowance per request, in order; counters are
/// locked in the order of the companies.
///
/// # Errors
/// If Postgres is unavailable or refuses.
pub(super) async fn reserve(
    tx: &Transaction<'_>,
    requests: &[ReservationRequest],
    deadline: Duration,
) -> Result<Vec<Allowance>, Failure> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|it| (requests[*it].company, requests[*it].turn));
    let earlier = order.iter().map(|it| &requests[*it]).filter(|it| it.claim > 1);
    let earlier: Vec<(CompanyId, TurnId, i32)> = earlier.map(|it| (it.company, it.turn, it.claim - 1)).collect();
    release(tx, &earlier).await?;
    let sorted: Vec<&ReservationRequest> = order.iter().map(|it| &requests[*it]).collect();
    let expires_s = (deadline + SPARE).as_secs_f64();
    let parameters = columns![sorted => |it| it.company.0, it.tokens, key(it.turn, it.claim); &expires_s];
    let rows = query(tx, RESERVE, &parameters).await?;
    let mut allowances = vec![Allowance::Granted; requests.len()];
    for row in rows.iter().filter(|row| !row.get::<_, bool>(1)) {
        if let Some(request) = order.get(ordinal(row)) {
            allowances[*request] = Allowance::Denied(row.get(2));
        }
    }
    Ok(allowances)
}

/// Releases the reservations of these claims of turns and of the claims before them. What was used is booked
/// separately.
///
/// # Errors
/// If Postgres refuses.
pub(super) async fn release(tx: &Transaction<'_>, claims: &[(CompanyId, TurnId, i32)]) -> Result<(), Error> {
    if claims.is_empty() {
        return Ok(());
    }
    let keys = |&(company, turn, last): &(CompanyId, TurnId, i32)| (1..=last).map(move |it| (company.0, key(turn, it)));
    let held: Vec<(i64, String)> = claims.iter().flat_map(keys).collect();
    execute(tx, RELEASE, &columns![held => |it| it.0, it.1.as_str()]).await?;
    Ok(())
}

fn key(turn: TurnId, claim: i32) -> String {
    format!("turn/{turn}/{claim}")
}
