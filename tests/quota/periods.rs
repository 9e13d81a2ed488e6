//! Periods against a calendar read by hand: month ends, leap years, and the days on which clocks are moved.

use tokio_postgres::Client;

use crate::support::{Database, records, refused};

const SAO_PAULO: &str = "America/Sao_Paulo";
const MANAUS: &str = "America/Manaus";
const LISBON: &str = "Europe/Lisbon";
const KATHMANDU: &str = "Asia/Kathmandu";

/// The period of an instant, both ends as `UTC | wall clock`.
async fn period(client: &Client, anchor: &str, cadence: &str, zone: &str, at: &str) -> String {
    let rows = client
        .query(
            "select format('%s = %s, %s = %s',
              to_char(p.period_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
              to_char(p.period_start at time zone $3, 'DD HH24:MI'),
              to_char(p.period_end at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
              to_char(p.period_end at time zone $3, 'DD HH24:MI'))
            from secretaria_reference.current_period($1::text::timestamptz, $2, $3, $4::text::timestamptz) p",
            &[&anchor, &cadence, &zone, &at],
        )
        .await
        .unwrap();
    rows[0].get(0)
}

/// Asks for each row and shows all that differ at once.
async fn agree(client: &Client, calendar: &[(&str, &str, &str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (anchor, cadence, zone, at, expected) in calendar {
        let found = period(client, anchor, cadence, zone, at).await;
        if found != *expected {
            wrong.push(format!("{anchor} {cadence} {zone} at {at}: {found}, by hand {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_month_from_the_31st_ends_on_the_last_day_and_comes_back_to_the_31st() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let anchor = "2025-12-31 13:00Z";
    let leap = "2024-01-31 12:15Z";
    agree(
        &client,
        &[
            (
                anchor,
                "month",
                SAO_PAULO,
                "2026-01-31 12:59Z",
                "2025-12-31 13:00 = 31 10:00, 2026-01-31 13:00 = 31 10:00",
            ),
            (
                anchor,
                "month",
                SAO_PAULO,
                "2026-01-31 13:00Z",
                "2026-01-31 13:00 = 31 10:00, 2026-02-28 13:00 = 28 10:00",
            ),
            (
                anchor,
                "month",
                SAO_PAULO,
                "2026-02-28 13:00Z",
                "2026-02-28 13:00 = 28 10:00, 2026-03-31 13:00 = 31 10:00",
            ),
            (
                anchor,
                "month",
                SAO_PAULO,
                "2026-04-01 00:00Z",
                "2026-03-31 13:00 = 31 10:00, 2026-04-30 13:00 = 30 10:00",
            ),
            (leap, "month", MANAUS, "2024-02-29 12:14Z", "2024-01-31 12:15 = 31 08:15, 2024-02-29 12:15 = 29 08:15"),
            (leap, "month", MANAUS, "2024-02-29 12:15Z", "2024-02-29 12:15 = 29 08:15, 2024-03-31 12:15 = 31 08:15"),
            (leap, "month", MANAUS, "2025-03-01 00:00Z", "2025-02-28 12:15 = 28 08:15, 2025-03-31 12:15 = 31 08:15"),
            // East of Greenwich the local month begins the day before.
            (
                "2023-12-30 18:15Z",
                "month",
                KATHMANDU,
                "2024-01-30 18:14Z",
                "2023-12-30 18:15 = 31 00:00, 2024-01-30 18:15 = 31 00:00",
            ),
            (
                "2023-12-30 18:15Z",
                "month",
                KATHMANDU,
                "2024-01-30 18:15Z",
                "2024-01-30 18:15 = 31 00:00, 2024-02-28 18:15 = 29 00:00",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_year_from_the_29th_of_february_keeps_to_february() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let anchor = "2024-02-29 00:15Z";
    agree(
        &client,
        &[
            (
                anchor,
                "year",
                KATHMANDU,
                "2025-02-28 00:14Z",
                "2024-02-29 00:15 = 29 06:00, 2025-02-28 00:15 = 28 06:00",
            ),
            (
                anchor,
                "year",
                KATHMANDU,
                "2025-02-28 00:15Z",
                "2025-02-28 00:15 = 28 06:00, 2026-02-28 00:15 = 28 06:00",
            ),
            (
                anchor,
                "year",
                KATHMANDU,
                "2028-03-01 00:00Z",
                "2028-02-29 00:15 = 29 06:00, 2029-02-28 00:15 = 28 06:00",
            ),
            (anchor, "year", "UTC", "2023-06-01 00:00Z", "2023-02-28 00:15 = 28 00:15, 2024-02-29 00:15 = 29 00:15"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_boundary_that_no_clock_shows_moves_forward() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    agree(
        &client,
        &[
            // São Paulo, 4 November 2018: from 00:00 to 01:00.
            (
                "2018-10-04 03:00Z",
                "month",
                SAO_PAULO,
                "2018-11-04 02:59Z",
                "2018-10-04 03:00 = 04 00:00, 2018-11-04 03:00 = 04 01:00",
            ),
            (
                "2018-10-04 03:00Z",
                "month",
                SAO_PAULO,
                "2018-11-04 03:00Z",
                "2018-11-04 03:00 = 04 01:00, 2018-12-04 02:00 = 04 00:00",
            ),
            (
                "2018-11-01 03:00Z",
                "day",
                SAO_PAULO,
                "2018-11-04 12:00Z",
                "2018-11-04 03:00 = 04 01:00, 2018-11-05 02:00 = 05 00:00",
            ),
            // Lisbon, 31 March 2024: from 01:00 to 02:00, so that 01:30 becomes 02:30.
            (
                "2024-01-31 01:30Z",
                "month",
                LISBON,
                "2024-03-31 01:29Z",
                "2024-02-29 01:30 = 29 01:30, 2024-03-31 01:30 = 31 02:30",
            ),
            (
                "2024-01-31 01:30Z",
                "month",
                LISBON,
                "2024-03-31 01:30Z",
                "2024-03-31 01:30 = 31 02:30, 2024-04-30 00:30 = 30 01:30",
            ),
            // Kathmandu, 1 January 1986: from 00:00 to 00:15.
            (
                "1985-12-29 18:30Z",
                "day",
                KATHMANDU,
                "1985-12-31 18:30Z",
                "1985-12-31 18:30 = 01 00:15, 1986-01-01 18:15 = 02 00:00",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_boundary_that_clocks_show_twice_is_the_first_of_the_two() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    agree(
        &client,
        &[
            // São Paulo, 17 February 2018: 23:30 comes at 01:30Z and again at 02:30Z.
            (
                "2018-01-18 01:30Z",
                "month",
                SAO_PAULO,
                "2018-02-18 01:29Z",
                "2018-01-18 01:30 = 17 23:30, 2018-02-18 01:30 = 17 23:30",
            ),
            (
                "2018-01-18 01:30Z",
                "month",
                SAO_PAULO,
                "2018-02-18 02:00Z",
                "2018-02-18 01:30 = 17 23:30, 2018-03-18 02:30 = 17 23:30",
            ),
            (
                "2018-01-18 01:30Z",
                "day",
                SAO_PAULO,
                "2018-02-18 02:30Z",
                "2018-02-18 01:30 = 17 23:30, 2018-02-19 02:30 = 18 23:30",
            ),
            // Lisbon, 27 October 2024: 01:30 comes at 00:30Z and again at 01:30Z.
            (
                "2024-09-27 00:30Z",
                "month",
                LISBON,
                "2024-10-27 00:30Z",
                "2024-10-27 00:30 = 27 01:30, 2024-11-27 01:30 = 27 01:30",
            ),
            // Half an hour is enough of a fold: Lord Howe, 7 April 2024, 01:45 at 14:45Z and again at 15:15Z.
            (
                "2024-03-06 14:45Z",
                "month",
                "Australia/Lord_Howe",
                "2024-04-06 15:00Z",
                "2024-04-06 14:45 = 07 01:45, 2024-05-06 15:15 = 07 01:45",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn periods_reach_back_before_the_anchor_and_weeks_keep_their_day() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    agree(
        &client,
        &[
            (
                "2026-03-31 13:00Z",
                "month",
                SAO_PAULO,
                "2026-02-28 14:00Z",
                "2026-02-28 13:00 = 28 10:00, 2026-03-31 13:00 = 31 10:00",
            ),
            (
                "2026-03-31 13:00Z",
                "month",
                SAO_PAULO,
                "2026-01-31 12:59Z",
                "2025-12-31 13:00 = 31 10:00, 2026-01-31 13:00 = 31 10:00",
            ),
            (
                "2026-01-07 12:00Z",
                "week",
                SAO_PAULO,
                "2026-01-21 11:59Z",
                "2026-01-14 12:00 = 14 09:00, 2026-01-21 12:00 = 21 09:00",
            ),
            (
                "2026-01-07 12:00Z",
                "week",
                SAO_PAULO,
                "2026-01-05 00:00Z",
                "2025-12-31 12:00 = 31 09:00, 2026-01-07 12:00 = 07 09:00",
            ),
        ],
    )
    .await;
    let never = "select * from secretaria_reference.current_period(now(), 'never', 'UTC', now())";
    assert_eq!(records(&client, never).await, ["(-infinity,infinity)"]);
}

/// Every zone and cadence over thirty years, from anchors on the hours at which clocks are moved.
#[tokio::test]
async fn periods_follow_each_other_without_gap_or_overlap() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let walk = "with asked as (
          select z.zone, c.cadence, a.anchor, a.anchor + i * c.step as at
          from unnest(array['America/Sao_Paulo', 'America/Manaus', 'Europe/Lisbon', 'Asia/Kathmandu']) as z (zone)
          cross join (values ('day', interval '397 hours'), ('week', interval '1213 hours'),
            ('month', interval '1459 hours'), ('year', interval '8761 hours')) as c (cadence, step)
          cross join (values (timestamptz '2003-12-31 03:00Z'), ('2004-02-29 02:30Z'), ('2006-10-29 01:30Z'))
            as a (anchor)
          cross join generate_series(-20, 130) as i
        ), answered as (
          select *
          from asked
          cross join lateral secretaria_reference.current_period(anchor, cadence, zone, at) p
          cross join lateral secretaria_reference.current_period(anchor, cadence, zone, p.period_end)
            as following (next_start, next_end)
          cross join lateral secretaria_reference.current_period(anchor, cadence, zone, p.period_end - interval '1 us')
            as same (same_start, same_end)
        )";
    let wrong = format!(
        "{walk} select * from answered
        where not (period_start <= at and at < period_end and next_start = period_end
          and same_start = period_start and same_end = period_end)
          -- No other instant of the hours before shows the same time.
          or (period_start - interval '1 hour') at time zone zone = period_start at time zone zone"
    );
    assert_eq!(records(&client, &wrong).await, [] as [String; 0]);
    let count: i64 = client.query_one(&format!("{walk} select count(*) from answered"), &[]).await.unwrap().get(0);
    assert_eq!(count, 4 * 4 * 3 * 151, "the walk has gone blind");
    // The wall clock of the anchor stays, but for the hour that a gap skips.
    let moved = format!(
        "{walk} select zone, (period_start at time zone zone)::time - (anchor at time zone zone)::time as moved
        from answered where (period_start at time zone zone)::time <> (anchor at time zone zone)::time
        group by 1, 2 order by 1, 2"
    );
    let moved = records(&client, &moved).await;
    assert!(moved.iter().all(|it| it.ends_with(",01:00:00)")), "{moved:?}");
    assert!(moved.iter().any(|it| it.contains("Lisbon")), "{moved:?}");
    assert!(!moved.iter().any(|it| it.contains("Manaus")), "{moved:?}");
}

#[tokio::test]
async fn what_is_no_period_is_refused_by_its_code() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    for (arguments, code) in [
        ("null, 'month', 'UTC', now()", "22004"),
        ("now(), null, 'UTC', now()", "22004"),
        ("now(), 'month', null, now()", "22004"),
        ("now(), 'month', 'UTC', null", "22004"),
        ("now(), 'hour', 'UTC', now()", "22023"),
        ("now(), 'month', 'Mars/Olympus', now()", "22023"),
        // An abbreviation and a rule are no zones.
        ("now(), 'month', 'BRT', now()", "22023"),
        ("now(), 'month', 'BRT3', now()", "22023"),
        ("now(), 'never', 'nowhere', now()", "22023"),
        ("now(), 'month', 'UTC', 'infinity'", "22023"),
    ] {
        let statement = format!("select secretaria_reference.current_period({arguments})");
        assert_eq!(refused(&client, &statement, &[]).await, code, "{arguments}");
    }
}
