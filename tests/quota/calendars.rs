//! Periods in Rust and in PL/pgSQL are the same periods, over thirty-seven years of clocks that were moved.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::oracle::{Cadence, Calendar, Period};
use crate::support::Database;

/// Zones with summer time that came and went (São Paulo until 2019, Manaus until 1994, Lisbon on another offset until
/// 1996), with none, with an odd offset, with half an hour of it, and one that skipped a day.
const ZONES: &[&str] = &[
    "America/Sao_Paulo",
    "America/Manaus",
    "Europe/Lisbon",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Noronha",
    "UTC",
];

/// Anchors on the quarters of hours at which clocks are moved, with month ends and leap days oftener than by chance;
/// instants anywhere and around the days on which they are moved, at the boundary itself and a microsecond before it.
const ASKED: &str = "
with moves as (
  select z.zone, coalesce(nullif(array_remove(array_agg(d.day), null), '{}'), array[timestamp '2000-01-01']) as days
  from unnest($1::text[]) as z (zone)
  left join generate_series(timestamp '1988-01-01', timestamp '2024-12-31', interval '1 day') as d (day)
    on d.day at time zone z.zone + interval '1 day' <> (d.day + interval '1 day') at time zone z.zone
  group by z.zone
), drawn as (
  select z.zone, c.cadence, n,
    (timestamp '1988-01-01'
      + make_interval(days => mod(abs(hashint8extended(n, 1)), 13500)::integer)
      + make_interval(mins => 15 * mod(abs(hashint8extended(n, 2)), 20)::integer - 60)) as wall,
    case n % 3
      when 0 then timestamptz '1988-01-01Z' + make_interval(secs => mod(abs(hashint8extended(n, 3)), 1166400000)::integer)
      else z.days[1 + mod(abs(hashint8extended(n, 4)), cardinality(z.days))] at time zone z.zone
        + make_interval(mins => mod(abs(hashint8extended(n, 5)), 2880)::integer)
    end as at
  from moves as z
  cross join unnest(array['day', 'week', 'month', 'year', 'never']) as c (cadence)
  cross join generate_series(1, 400) as n
), anchored as (
  select zone, cadence,
    case n % 4
      when 0 then (date_trunc('month', wall) + interval '1 month -1 day') + (wall - date_trunc('day', wall))
      when 1 then (timestamp '1992-02-29' + make_interval(years => 4 * (n % 9))) + (wall - date_trunc('day', wall))
      else wall
    end at time zone zone as anchor,
    at
  from drawn
), near as (
  select a.zone, a.cadence, a.anchor, i.at
  from anchored a
  cross join lateral secretaria_reference.current_period(a.anchor, a.cadence, a.zone, a.at) p
  cross join lateral (
    values (a.at), (p.period_start), (p.period_end), (p.period_end - interval '1 microsecond')
  ) as i (at)
  where isfinite(i.at)
)
select n.zone, n.cadence, n.anchor, n.at,
  case when isfinite(p.period_start) then p.period_start end as period_start,
  case when isfinite(p.period_end) then p.period_end end as period_end,
  -- The clock shows another time than the anchor's: a gap was in the way.
  coalesce((nullif(p.period_start, '-infinity') at time zone n.zone)::time
    <> (n.anchor at time zone n.zone)::time, false) as is_moved,
  -- It shows this time twice, and this is the first.
  coalesce((nullif(p.period_start, '-infinity') + interval '1 hour') at time zone n.zone
    = nullif(p.period_start, '-infinity') at time zone n.zone, false) as is_twice
from near n
cross join lateral secretaria_reference.current_period(n.anchor, n.cadence, n.zone, n.at) p";

#[tokio::test]
async fn both_languages_count_the_same_periods() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let rows = client.query(ASKED, &[&ZONES]).await.unwrap();
    assert!(rows.len() > 40_000, "{} periods", rows.len());
    let (mut wrong, mut moved, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (zone, cadence): (&str, &str) = (row.get("zone"), row.get("cadence"));
        let (anchor, at): (Timestamp, Timestamp) = (row.get("anchor"), row.get("at"));
        let ends: (Option<Timestamp>, Option<Timestamp>) = (row.get("period_start"), row.get("period_end"));
        let calendar = Calendar::new(anchor, TimeZone::get(zone).unwrap(), Cadence::named(cadence).unwrap());
        let counted = match calendar.period_at(at).unwrap() {
            Period::Always => (None, None),
            Period::Between { start_at, end_at } => (Some(start_at), Some(end_at)),
        };
        if counted != ends {
            wrong.push(format!("{zone} {cadence} from {anchor} at {at}: {counted:?} in Rust, {ends:?} in SQL"));
        }
        moved.extend(row.get::<_, bool>("is_moved").then_some(zone));
        twice.extend(row.get::<_, bool>("is_twice").then_some(zone));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong[..wrong.len().min(20)].join("\n"));
    // Had no boundary met a gap or a fold, this would prove little.
    for zone in ["America/Sao_Paulo", "Europe/Lisbon"] {
        for (what, found) in [("gap", &moved), ("fold", &twice)] {
            assert!(found.iter().filter(|it| **it == zone).count() > 10, "hardly a {what} in {zone}");
        }
    }
}
