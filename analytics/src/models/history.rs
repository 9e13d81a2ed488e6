//! From purchases to customer summaries, with a calibration period to fit on and a hold-out period to check against.
//!
//! The purchases of one customer on one day are one purchase, as in Fader, Hardie and Lee (2005). A day belongs to the
//! calibration period up to and including its last day, and to the hold-out period after that.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::error::Error;
use super::gamma_gamma::Spend;
use super::summary::Summary;

/// What one customer spent on one day, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purchase<C> {
    pub customer: C,
    pub day: Date,
    pub spend_micros: i64,
}

/// The unit that times are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    Day,
    Week,
}

impl TimeUnit {
    fn days(self) -> f64 {
        match self {
            TimeUnit::Day => 1.0,
            TimeUnit::Week => 7.0,
        }
    }
}

/// The calibration and the hold-out period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    calibration_end: Date,
    holdout_end: Date,
    unit: TimeUnit,
}

impl Periods {
    /// The last day of each period; equal days mean no hold-out. The hold-out may end in the future.
    pub fn new(calibration_end: Date, holdout_end: Date, unit: TimeUnit) -> Result<Self, Error> {
        if holdout_end < calibration_end {
            let value = days_between(calibration_end, holdout_end);
            return Err(Error::OutOfRange { what: "days of the hold-out period", value });
        }
        Ok(Periods { calibration_end, holdout_end, unit })
    }

    /// The length of the hold-out period.
    pub fn holdout(&self) -> f64 {
        days_between(self.calibration_end, self.holdout_end) / self.unit.days()
    }

    /// The summaries of those who bought in the calibration period, by customer. Later customers are left out.
    pub fn summarise<C: Ord>(&self, purchases: impl IntoIterator<Item = Purchase<C>>) -> Vec<CustomerHistory<C>> {
        let mut days: BTreeMap<C, BTreeMap<Date, i64>> = BTreeMap::new();
        for Purchase { customer, day, spend_micros } in purchases {
            if day <= self.holdout_end {
                *days.entry(customer).or_default().entry(day).or_default() += spend_micros;
            }
        }
        days.into_iter().filter_map(|(customer, days)| self.history(customer, &days)).collect()
    }

    fn history<C>(&self, customer: C, days: &BTreeMap<Date, i64>) -> Option<CustomerHistory<C>> {
        let (&first, &first_spend_micros) = days.first_key_value().filter(|it| *it.0 <= self.calibration_end)?;
        let mut history = CustomerHistory {
            customer,
            first,
            summary: Summary::new(0, 0.0, self.since(first, self.calibration_end)).ok()?,
            first_spend_micros,
            repeat_spend_micros: 0,
            holdout_x: 0,
            holdout_spend_micros: 0,
        };
        let (mut x, mut last) = (0, first);
        for (&day, spend) in days.iter().skip(1) {
            if day <= self.calibration_end {
                (x, last) = (x + 1, day);
                history.repeat_spend_micros += spend;
            } else {
                history.holdout_x += 1;
                history.holdout_spend_micros += spend;
            }
        }
        history.summary = Summary::new(x, self.since(first, last), history.summary.age()).ok()?;
        Some(history)
    }

    fn since(&self, first: Date, day: Date) -> f64 {
        days_between(first, day) / self.unit.days()
    }
}

fn days_between(from: Date, to: Date) -> f64 {
    // Dates have no zone, so that each day has 24 hours.
    (to.duration_since(from).as_hours() / 24) as f64
}

/// A customer's calibration period in the numbers the models need, and what the hold-out period brought.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomerHistory<C> {
    pub customer: C,
    pub first: Date,
    pub summary: Summary,
    /// Spent on the day of the first purchase.
    pub first_spend_micros: i64,
    /// Spent on later days of the calibration period.
    pub repeat_spend_micros: i64,
    /// Days with purchases in the hold-out period.
    pub holdout_x: u32,
    pub holdout_spend_micros: i64,
}

impl<C> CustomerHistory<C> {
    /// The mean of the repeat purchases, in whole units of money.
    pub fn spend(&self) -> Spend {
        let x = self.summary.x();
        let mean = if x == 0 { 0.0 } else { self.repeat_spend_micros as f64 / 1e6 / f64::from(x) };
        Spend { x, mean }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    const START: Date = date(2026, 1, 1);

    fn purchases() -> impl Strategy<Value = Vec<Purchase<u8>>> {
        let purchase = (0u8..12, 0i32..200, -5_000_000i64..1_000_000_000);
        let at = |day: i32| START.checked_add(day.days()).unwrap();
        let one = move |(customer, day, spend_micros)| Purchase { customer, day: at(day), spend_micros };
        proptest::collection::vec(purchase.prop_map(one), 0..120)
    }

    fn periods(calibration: i32, holdout: i32, unit: TimeUnit) -> Periods {
        let end = |days: i32| START.checked_add(days.days()).unwrap();
        Periods::new(end(calibration), end(calibration + holdout), unit).unwrap()
    }

    proptest! {
        #[test]
        fn every_day_of_a_customer_is_counted_once(all in purchases(), calibration in 0i32..250, holdout in 0i32..250) {
            let periods = periods(calibration, holdout, TimeUnit::Week);
            let histories = periods.summarise(all.clone());
            let known: BTreeSet<u8> = histories.iter().map(|it| it.customer).collect();
            let counted = all.iter().filter(|it| known.contains(&it.customer) && it.day <= periods.holdout_end);
            let days: BTreeSet<_> = counted.clone().map(|it| (it.customer, it.day)).collect();
            let repeats: u32 = histories.iter().map(|it| it.summary.x() + it.holdout_x).sum();
            prop_assert_eq!(repeats as usize + histories.len(), days.len());
            let before = |it: &&Purchase<u8>| it.day <= periods.calibration_end;
            let spent = |it: Vec<&Purchase<u8>>| it.iter().map(|it| it.spend_micros).sum::<i64>();
            let of = |part: fn(&CustomerHistory<u8>) -> i64| histories.iter().map(part).sum::<i64>();
            let calibrated = of(|it| it.first_spend_micros + it.repeat_spend_micros);
            prop_assert_eq!(calibrated, spent(counted.clone().filter(before).collect()));
            let held_out = of(|it| it.holdout_spend_micros);
            prop_assert_eq!(held_out, spent(counted.filter(|it| !before(it)).collect()));
            // Those who bought in the calibration period are known, and no others.
            let buyers: BTreeSet<u8> = all.iter().filter(before).map(|it| it.customer).collect();
            prop_assert_eq!(buyers, known);
        }

        #[test]
        fn neither_order_nor_splitting_of_a_day_changes_a_history(all in purchases()) {
            let periods = periods(100, 50, TimeUnit::Day);
            let once = periods.summarise(all.clone());
            let mut halves: Vec<Purchase<u8>> = Vec::new();
            for it in all.iter().rev() {
                let half = it.spend_micros / 2;
                halves.push(Purchase { spend_micros: half, ..*it });
                halves.push(Purchase { spend_micros: it.spend_micros - half, ..*it });
            }
            prop_assert_eq!(periods.summarise(halves), once);
        }

        #[test]
        fn units_agree(all in purchases()) {
            let days = periods(150, 50, TimeUnit::Day).summarise(all.clone());
            let weeks = periods(150, 50, TimeUnit::Week).summarise(all);
            prop_assert_eq!(days.len(), weeks.len());
            for (day, week) in days.iter().zip(&weeks) {
                prop_assert_eq!(day.summary.x(), week.summary.x());
                prop_assert!((day.summary.age() - 7.0 * week.summary.age()).abs() < 1e-9);
                prop_assert!((day.summary.t_x() - 7.0 * week.summary.t_x()).abs() < 1e-9);
                prop_assert!(0.0 <= day.summary.t_x() && day.summary.t_x() <= day.summary.age());
            }
        }
    }

    #[test]
    fn a_hold_out_that_ends_before_it_begins_is_refused() {
        let error = Periods::new(START, date(2025, 12, 30), TimeUnit::Day).unwrap_err();
        assert_eq!(error.to_string(), "days of the hold-out period is out of range: -2");
        assert_eq!(periods(10, 21, TimeUnit::Week).holdout(), 3.0);
    }
}
