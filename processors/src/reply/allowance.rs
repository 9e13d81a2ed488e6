//! reply's allowance: tokens that are reserved before a model call, and given back when the turn ends.
//!
//! Whether a company may still ask the model is decided inside Postgres, by the functions that SQL callers use too.
//! Tokens are reserved in the transaction of the claim, because the call comes after it; the real count is booked, and the
//! rest given back, in the transaction that ends the turn. A reservation whose turn never ends runs out by itself.

use std::time::Duration;

use domain::{CompanyId, TurnId};
use platform::postgres::{Failure, Transaction, execute, query};
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
pub(super) struct Request {
    pub(super) company: CompanyId,
    pub(super) turn: TurnId,
    /// Which claim of the turn.
    pub(super) claim: i32,
    /// Most tokens it may use.
    pub(super) tokens: i64,
}

const RESERVE: &str = "\
select it.place, r.allowed, r.reason
from unnest($1::bigint[], $2::bigint[], $3::text[]) with ordinality as it (company_id, tokens, key, place)
cross join secretaria.features_catalog f
cross join lateral reserve_feature_usage(it.company_id, f.feature, it.tokens, make_interval(secs => $4), it.key) r
where f.fact = 'model_tokens' and f.status <> 'archived'";

const GIVE_BACK: &str = "\
select release_reservation(r.company_id, r.reservation_id)
from unnest($1::bigint[], $2::text[]) with ordinality as it (company_id, key, place)
cross join lateral (
  select r.company_id, r.reservation_id
  from secretaria.usage_reservations r
  where r.company_id = it.company_id and r.idempotency_key = it.key and r.state = 'held'
) r
order by it.place";

/// Reserves tokens for model calls, and gives back what earlier claims of their turns, whose workers died, still hold.
/// Where no feature counts tokens there is nothing to reserve. One answer per request, in order; counters are locked in
/// the order of the companies.
///
/// # Errors
/// If Postgres is away or refuses.
pub(super) async fn reserve(
    tx: &Transaction<'_>,
    requests: &[Request],
    deadline: Duration,
) -> Result<Vec<Allowance>, Failure> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|it| (requests[*it].company, requests[*it].turn));
    let earlier = order.iter().map(|it| &requests[*it]).filter(|it| it.claim > 1);
    let earlier: Vec<(CompanyId, TurnId, i32)> = earlier.map(|it| (it.company, it.turn, it.claim - 1)).collect();
    give_back(tx, &earlier).await?;
    let companies: Vec<i64> = order.iter().map(|it| requests[*it].company.0).collect();
    let tokens: Vec<i64> = order.iter().map(|it| requests[*it].tokens).collect();
    let keys: Vec<String> = order.iter().map(|it| key(requests[*it].turn, requests[*it].claim)).collect();
    let lives_s = (deadline + SPARE).as_secs_f64();
    let rows = query(tx, RESERVE, &[&companies, &tokens, &keys, &lives_s]).await?;
    let mut allowances = vec![Allowance::Granted; requests.len()];
    for row in rows.iter().filter(|row| !row.get::<_, bool>(1)) {
        let place = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
        if let Some(request) = order.get(place) {
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
    let (mut companies, mut keys) = (Vec::new(), Vec::new());
    for (company, turn, last) in claims {
        for claim in 1..=*last {
            companies.push(company.0);
            keys.push(key(*turn, claim));
        }
    }
    execute(tx, GIVE_BACK, &[&companies, &keys]).await?;
    Ok(())
}

fn key(turn: TurnId, claim: i32) -> String {
    format!("turn/{turn}/{claim}")
}
