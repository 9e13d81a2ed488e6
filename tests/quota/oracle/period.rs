//! Periods counted from an anchor, in a time zone: the n-th boundary is the anchor's wall time n steps on.
//!
//! Counting from the anchor, never from the last boundary, brings 31 January over 28 February back to 31 March.
//! Periods are half open and tile time in both directions. A wall time that a clock change skips moves forward by the
//! gap; one that occurs twice is its earlier instant (RFC 5545 §3.3.5 says the same of both).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// How often a counter starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cadence {
    /// Seats and the like: counted for good.
    Never,
    /// Every day at the anchor's wall time.
    Day,
    Week,
    /// Every month on the anchor's day, or on the last one of a shorter month.
    Month,
    /// Every year on the anchor's date; 29 February is 28 in common years.
    Year,
}

impl Cadence {
    /// Every cadence, shortest last of all those that end.
    pub(crate) const ALL: [Cadence; 5] = [Cadence::Never, Cadence::Year, Cadence::Month, Cadence::Week, Cadence::Day];

    /// The name in `features_catalog.reset` and `plan_versions.billing_interval`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Cadence::Never => "never",
            Cadence::Day => "day",
            Cadence::Week => "week",
            Cadence::Month => "month",
            Cadence::Year => "year",
        }
    }

    /// The cadence of that name.
    pub(crate) fn named(name: &str) -> Option<Cadence> {
        Cadence::ALL.into_iter().find(|cadence| cadence.as_str() == name)
    }
}

/// From when until when a count is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Period {
    /// It never starts again: `['-infinity', 'infinity')` in SQL.
    Always,
    /// The start is in it, the end is the next one's.
    Between {
        start_at: Timestamp,
        /// The first instant that is no longer in it.
        end_at: Timestamp,
    },
}

impl Period {
    /// Whether `at` is in it.
    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        match *self {
            Period::Always => true,
            Period::Between { start_at, end_at } => start_at <= at && at < end_at,
        }
    }
}

/// A boundary lies outside what a [`Timestamp`] can say: the years −9999 to 9999.
#[derive(Debug, thiserror::Error)]
#[error("the period reaches beyond the calendar")]
pub(crate) struct OutOfRange(#[from] jiff::Error);

/// Where periods are counted from, and how.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    anchor: DateTime,
    zone: TimeZone,
    cadence: Cadence,
}

impl Calendar {
    /// Periods of `cadence` on the wall time that `anchor_at` has in `zone`.
    pub(crate) fn new(anchor_at: Timestamp, zone: TimeZone, cadence: Cadence) -> Self {
        Calendar { anchor: zone.to_datetime(anchor_at), zone, cadence }
    }

    /// The period that `at` is in, before the anchor too.
    ///
    /// # Errors
    /// [`OutOfRange`] if one of its ends lies beyond the calendar.
    pub(crate) fn period_at(&self, at: Timestamp) -> Result<Period, OutOfRange> {
        let Some(mut n) = self.guess(at) else { return Ok(Period::Always) };
        // The guess is by wall date; a few steps at most put it right. Where a zone skipped a whole day two boundaries
        // are one instant, and the last of them begins the period.
        let mut start_at = self.boundary(n)?;
        while start_at > at {
            n -= 1;
            start_at = self.boundary(n)?;
        }
        let mut end_at = self.boundary(n + 1)?;
        while end_at <= at {
            n += 1;
            (start_at, end_at) = (end_at, self.boundary(n + 1)?);
        }
        Ok(Period::Between { start_at, end_at })
    }

    /// The number of the period around `at`, give or take one; none if nothing ever starts again.
    fn guess(&self, at: Timestamp) -> Option<i64> {
        let (from, to) = (self.anchor.date(), self.zone.to_datetime(at).date());
        let days = i64::from((to - from).get_days());
        let years = i64::from(to.year()) - i64::from(from.year());
        let months = years * 12 + i64::from(to.month()) - i64::from(from.month());
        match self.cadence {
            Cadence::Never => None,
            Cadence::Day => Some(days),
            Cadence::Week => Some(days.div_euclid(7)),
            Cadence::Month => Some(months),
            Cadence::Year => Some(years),
        }
    }

    fn boundary(&self, n: i64) -> Result<Timestamp, OutOfRange> {
        let steps = match self.cadence {
            Cadence::Never => Span::new(),
            Cadence::Day => Span::new().try_days(n)?,
            Cadence::Week => Span::new().try_weeks(n)?,
            Cadence::Month => Span::new().try_months(n)?,
            Cadence::Year => Span::new().try_years(n)?,
        };
        Ok(self.zone.to_timestamp(self.anchor.checked_add(steps)?)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const ZONES: [&str; 5] = ["America/Sao_Paulo", "America/Manaus", "Europe/Lisbon", "Asia/Kathmandu", "Pacific/Apia"];

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ends(period: Period) -> (Timestamp, Timestamp) {
        let Period::Between { start_at, end_at } = period else { panic!("it ends") };
        (start_at, end_at)
    }

    /// The wall times of the boundaries after the one before `from`.
    fn boundaries(anchor: &str, zone_name: &str, cadence: Cadence, from: &str, count: usize) -> Vec<String> {
        let tz = zone(zone_name);
        let calendar = Calendar::new(at(anchor), tz.clone(), cadence);
        let mut instant = at(from);
        let mut found = Vec::new();
        for _ in 0..count {
            let (_, end_at) = ends(calendar.period_at(instant).unwrap());
            found.push(end_at.to_zoned(tz.clone()).strftime("%Y-%m-%d %H:%M %z").to_string());
            instant = end_at;
        }
        found
    }

    #[test]
    fn an_anchor_on_the_31st_comes_back_to_the_31st() {
        assert_eq!(
            boundaries("2025-01-31T13:00:00Z", "America/Sao_Paulo", Cadence::Month, "2025-01-31T13:00:00Z", 4),
            ["2025-02-28 10:00 -0300", "2025-03-31 10:00 -0300", "2025-04-30 10:00 -0300", "2025-05-31 10:00 -0300"]
        );
        assert_eq!(
            boundaries("2024-01-31T04:15:00Z", "Asia/Kathmandu", Cadence::Month, "2024-02-01T00:00:00Z", 2),
            ["2024-02-29 10:00 +0545", "2024-03-31 10:00 +0545"]
        );
    }

    #[test]
    fn an_anchor_on_the_31st_reaches_back_before_itself() {
        assert_eq!(
            boundaries("2025-01-31T14:00:00Z", "America/Manaus", Cadence::Month, "2024-02-01T00:00:00Z", 3),
            ["2024-02-29 10:00 -0400", "2024-03-31 10:00 -0400", "2024-04-30 10:00 -0400"]
        );
    }

    #[test]
    fn a_leap_day_is_28_february_in_common_years() {
        assert_eq!(
            boundaries("2024-02-29T12:00:00Z", "Europe/Lisbon", Cadence::Year, "2024-03-01T00:00:00Z", 4),
            ["2025-02-28 12:00 +0000", "2026-02-28 12:00 +0000", "2027-02-28 12:00 +0000", "2028-02-29 12:00 +0000"]
        );
    }

    #[test]
    fn a_wall_time_that_is_skipped_moves_forward() {
        assert_eq!(
            boundaries("2025-03-28T01:30:00Z", "Europe/Lisbon", Cadence::Day, "2025-03-28T12:00:00Z", 3),
            ["2025-03-29 01:30 +0000", "2025-03-30 02:30 +0100", "2025-03-31 01:30 +0100"]
        );
        assert_eq!(
            boundaries("2018-10-04T03:15:00Z", "America/Sao_Paulo", Cadence::Month, "2018-10-05T00:00:00Z", 2),
            ["2018-11-04 01:15 -0200", "2018-12-04 00:15 -0200"]
        );
    }

    #[test]
    fn a_wall_time_that_occurs_twice_is_the_earlier_instant() {
        assert_eq!(
            boundaries("2025-10-24T00:30:00Z", "Europe/Lisbon", Cadence::Day, "2025-10-24T12:00:00Z", 3),
            ["2025-10-25 01:30 +0100", "2025-10-26 01:30 +0100", "2025-10-27 01:30 +0000"]
        );
        assert_eq!(
            boundaries("2018-02-10T01:30:00Z", "America/Sao_Paulo", Cadence::Day, "2018-02-16T12:00:00Z", 2),
            ["2018-02-16 23:30 -0200", "2018-02-17 23:30 -0200"]
        );
    }

    #[test]
    fn a_day_that_never_was_makes_no_period() {
        assert_eq!(
            boundaries("2011-12-27T20:00:00Z", "Pacific/Apia", Cadence::Day, "2011-12-28T20:00:00Z", 3),
            ["2011-12-29 10:00 -1000", "2011-12-31 10:00 +1400", "2012-01-01 10:00 +1400"]
        );
    }

    #[test]
    fn what_never_starts_again_is_one_period() {
        let calendar = Calendar::new(at("2025-01-31T13:00:00Z"), zone("America/Sao_Paulo"), Cadence::Never);
        assert_eq!(calendar.period_at(at("1999-01-01T00:00:00Z")).unwrap(), Period::Always);
    }

    #[test]
    fn a_boundary_past_the_last_year_is_an_error() {
        let calendar = Calendar::new(at("2025-01-31T13:00:00Z"), zone("America/Sao_Paulo"), Cadence::Year);
        assert!(calendar.period_at(Timestamp::MAX).is_err());
    }

    #[test]
    fn names_lead_back_to_cadences() {
        assert!(Cadence::ALL.into_iter().all(|cadence| Cadence::named(cadence.as_str()) == Some(cadence)));
        assert_eq!(Cadence::named("fortnight"), None);
    }

    /// Instants from 1990 to 2040, to the microsecond as in the database.
    fn instant() -> impl Strategy<Value = Timestamp> {
        (631_152_000_000_000_i64..2_208_988_800_000_000).prop_map(|it| Timestamp::from_microsecond(it).unwrap())
    }

    fn calendar() -> impl Strategy<Value = Calendar> {
        let cadence = select(vec![Cadence::Day, Cadence::Week, Cadence::Month, Cadence::Year]);
        (instant(), select(ZONES.to_vec()), cadence)
            .prop_map(|(anchor_at, name, cadence)| Calendar::new(anchor_at, zone(name), cadence))
    }

    proptest! {
        #[test]
        fn a_period_contains_its_instant(calendar in calendar(), instant in instant()) {
            prop_assert!(calendar.period_at(instant).unwrap().contains(instant));
        }

        #[test]
        fn periods_tile_time(calendar in calendar(), instant in instant()) {
            let (start_at, end_at) = ends(calendar.period_at(instant).unwrap());
            prop_assert!(start_at < end_at);
            let last = end_at - Span::new().microseconds(1);
            for inside in [start_at, last] {
                prop_assert_eq!(calendar.period_at(inside).unwrap(), Period::Between { start_at, end_at });
            }
            let before = calendar.period_at(start_at - Span::new().microseconds(1)).unwrap();
            prop_assert_eq!(ends(before).1, start_at);
            prop_assert_eq!(ends(calendar.period_at(end_at).unwrap()).0, end_at);
        }

        #[test]
        fn months_begin_on_the_anchors_day_or_the_months_last(
            anchor_at in instant(), name in select(ZONES[..4].to_vec()), instant in instant(),
        ) {
            let tz = zone(name);
            let anchor = tz.to_datetime(anchor_at);
            let (start_at, _) = ends(Calendar::new(anchor_at, tz.clone(), Cadence::Month).period_at(instant).unwrap());
            let month = tz.to_datetime(start_at).date();
            let day = month.with().day(anchor.day().min(month.days_in_month())).build().unwrap();
            prop_assert_eq!(start_at, tz.to_timestamp(day.to_datetime(anchor.time())).unwrap());
        }
    }
}
