//! On which day of its own a company's events are: its time zone as intervals with one offset each.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::cast::{as_int64_array, as_timestamp_microsecond_array};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::lake::schema::{DAY_MICROS, day_number, utc_day};

/// From an instant on, a zone is that far from UTC. In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    from: i64,
    offset: i64,
}

/// The time zones of companies, as far as they are needed for a UTC day and the days beside it.
#[derive(Debug, Clone, Default)]
pub struct Zones {
    companies: Arc<HashMap<i64, Arc<[Interval]>>>,
}

impl Zones {
    /// The zones around a UTC day. A company that is not among them has UTC, and so has one with an unknown zone.
    pub fn around(day: Date, companies: impl IntoIterator<Item = (i64, String)>) -> Self {
        let mut zones: HashMap<String, Arc<[Interval]>> = HashMap::new();
        let companies = companies.into_iter().map(|(company, zone)| {
            let intervals = zones.entry(zone).or_insert_with_key(|zone| intervals(zone, day));
            (company, Arc::clone(intervals))
        });
        Zones { companies: Arc::new(companies.collect()) }
    }

    /// The day of a company's own on which an instant is, in days since 1970.
    pub fn local_day(&self, company: i64, micros: i64) -> i32 {
        day_in(self.companies.get(&company).map_or(&[], |it| it), micros)
    }

    /// The function `local_day(company_id, occurred_at)`. Rows of one company that follow one another cost one look-up.
    pub(super) fn local_day_udf(&self) -> ScalarUDF {
        let companies = Arc::clone(&self.companies);
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        create_udf(
            "local_day",
            vec![DataType::Int64, micros],
            DataType::Date32,
            Volatility::Immutable,
            Arc::new(move |arguments: &[ColumnarValue]| {
                let arrays = ColumnarValue::values_to_arrays(arguments)?;
                let (ids, instants) = (as_int64_array(&arrays[0])?, as_timestamp_microsecond_array(&arrays[1])?);
                Ok(ColumnarValue::Array(local_days(&companies, ids, instants)))
            }),
        )
    }
}

fn local_days(
    companies: &HashMap<i64, Arc<[Interval]>>,
    ids: &Int64Array,
    instants: &TimestampMicrosecondArray,
) -> ArrayRef {
    let mut current: (i64, &[Interval]) = (0, &[]);
    let days = (0..ids.len()).map(|row| {
        let id = ids.value(row);
        if id != current.0 {
            current = (id, companies.get(&id).map_or(&[], |it| it));
        }
        day_in(current.1, instants.value(row))
    });
    Arc::new(Date32Array::from_iter_values(days))
}

fn day_in(intervals: &[Interval], micros: i64) -> i32 {
    let offset = intervals.iter().rev().find(|it| it.from <= micros).map_or(0, |it| it.offset);
    utc_day(micros.saturating_add(offset))
}

/// The offsets of a zone from the beginning of a UTC day to its end.
fn intervals(zone: &str, day: Date) -> Arc<[Interval]> {
    let Ok(zone) = TimeZone::get(zone) else {
        tracing::warn!(zone, "unknown time zone, its days are those of UTC");
        return Arc::new([]);
    };
    let begins = i64::from(day_number(day)).saturating_mul(DAY_MICROS);
    let instant = |micros: i64| Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
    let offset = |at: Timestamp| i64::from(zone.to_offset(at).seconds()).saturating_mul(1_000_000);
    let mut all = vec![Interval { from: i64::MIN, offset: offset(instant(begins)) }];
    for change in zone.following(instant(begins)) {
        let from = change.timestamp().as_microsecond();
        if from >= begins.saturating_add(DAY_MICROS) {
            break;
        }
        all.push(Interval { from, offset: offset(change.timestamp()) });
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day_of(zone: &str, at: &str) -> String {
        let at: Timestamp = at.parse().unwrap();
        let utc = at.to_zoned(TimeZone::UTC).date();
        let zones = Zones::around(utc, [(7, zone.to_owned())]);
        let day = zones.local_day(7, at.as_microsecond());
        crate::lake::schema::date(day).unwrap().to_string()
    }

    #[test]
    fn days_begin_where_the_company_is() {
        assert_eq!(day_of("America/Sao_Paulo", "2026-03-01T02:59:59.999999Z"), "2026-02-28");
        assert_eq!(day_of("America/Sao_Paulo", "2026-03-01T03:00:00Z"), "2026-03-01");
        assert_eq!(day_of("Asia/Kathmandu", "2026-03-01T18:14:59Z"), "2026-03-01", "5 h 45 min ahead");
        assert_eq!(day_of("Asia/Kathmandu", "2026-03-01T18:15:00Z"), "2026-03-02");
        assert_eq!(day_of("Nowhere/Land", "2026-03-01T23:59:59Z"), "2026-03-01");
    }

    /// Until 2019 summer time in São Paulo began and ended at midnight.
    #[test]
    fn the_hour_that_is_repeated_and_the_hour_that_is_left_out_are_on_their_days() {
        // 2018-02-18T00:00 became 2018-02-17T23:00: UTC 02:00 is 23:00 of the 17th for the second time.
        assert_eq!(day_of("America/Sao_Paulo", "2018-02-18T01:59:59Z"), "2018-02-17");
        assert_eq!(day_of("America/Sao_Paulo", "2018-02-18T02:30:00Z"), "2018-02-17");
        assert_eq!(day_of("America/Sao_Paulo", "2018-02-18T03:00:00Z"), "2018-02-18");
        // 2018-11-04T00:00 became 01:00.
        assert_eq!(day_of("America/Sao_Paulo", "2018-11-04T02:59:59Z"), "2018-11-03");
        assert_eq!(day_of("America/Sao_Paulo", "2018-11-04T03:00:00Z"), "2018-11-04");
    }

    #[test]
    fn before_1970_days_are_counted_downwards() {
        assert_eq!(day_of("UTC", "1969-12-31T23:59:59Z"), "1969-12-31");
    }
}
