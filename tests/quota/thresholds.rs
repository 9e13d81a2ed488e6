//! Thresholds are crossed at the same unit in Rust and in PL/pgSQL.

use crate::oracle::{Threshold, already_reached, to_announce};
use crate::support::Database;

/// Limits with amounts on both sides of each of their thresholds, from the smallest to the largest there are.
const ASKED: &str = "
with limits as (
  select * from unnest(array[null, 0, 1, 2, 3, 7, 99, 100, 101, 1000003, 9223372036854775807]::bigint[]) as l (max)
), near as (
  select l.max, greatest(least(div(coalesce(l.max, 100)::numeric * share, 100) + off, 9223372036854775807), 0)::bigint
    as used
  from limits l
  cross join unnest(array[0, 50, 80, 100, 130]) as s (share)
  cross join unnest(array[-1, 0, 1]) as o (off)
)
select a.max, b.used as before, a.used as after, f.fired::smallint as fired,
  secretaria_reference._thresholds_between(b.used, a.used, a.max, f.fired::smallint) as crossed,
  secretaria_reference._threshold_reached(a.used, a.max) as reached
from near a
join near b on b.max is not distinct from a.max
cross join unnest(array[0, 80, 100]) as f (fired)";

#[tokio::test]
async fn both_languages_cross_the_same_thresholds() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let rows = client.query(ASKED, &[]).await.unwrap();
    assert!(rows.len() > 5_000, "{} crossings", rows.len());
    let (mut wrong, mut crossings) = (Vec::new(), 0);
    for row in &rows {
        let (limit, before, after): (Option<i64>, i64, i64) = (row.get("max"), row.get("before"), row.get("after"));
        let (fired, crossed, reached): (i16, Vec<i16>, i16) =
            (row.get("fired"), row.get("crossed"), row.get("reached"));
        let announced = Threshold::ALL.into_iter().find(|it| it.percent() == fired);
        let told: Vec<_> = to_announce(limit, before, after, announced).into_iter().map(Threshold::percent).collect();
        let highest = already_reached(limit, after).map_or(0, Threshold::percent);
        if (&told, highest) != (&crossed, reached) {
            wrong.push(format!(
                "{limit:?}: {before} to {after} after {fired}: {told:?} {highest}, {crossed:?} {reached}"
            ));
        }
        crossings += crossed.len();
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(crossings > 500, "{crossings} crossings prove little");
}
