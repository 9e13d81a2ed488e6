//! What a change of plan costs inside a billing period: integer minor units, by the time that is left.
//!
//! Each plan is weighed over its own billing period, so that a month can become a year. Both shares are rounded down:
//! never more is given back, or charged, than the exact share, and plans of one price cancel each other out.

use jiff::Timestamp;

/// What a plan version costs per billing interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Price<'a> {
    /// In the currency's minor unit (centavos); never negative.
    pub(crate) price_minor: i64,
    /// ISO 4217, as in `plan_versions.currency`.
    pub(crate) currency: &'a str,
}

/// The billing period a change falls in: `start_at <= change < end_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BillingPeriod {
    pub(crate) start_at: Timestamp,
    /// The first instant that is no longer in it.
    pub(crate) end_at: Timestamp,
}

/// One line of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Given back for the time the old plan is not used: zero or negative.
    UnusedTime { amount_minor: i64 },
    /// Charged for the time the new plan will be used: zero or positive.
    RemainingTime { amount_minor: i64 },
}

impl Line {
    /// Its name in `preview_plan_change`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Line::UnusedTime { .. } => "unused_time",
            Line::RemainingTime { .. } => "remaining_time",
        }
    }

    /// In minor units: negative is given back.
    pub(crate) fn amount_minor(self) -> i64 {
        match self {
            Line::UnusedTime { amount_minor } | Line::RemainingTime { amount_minor } => amount_minor,
        }
    }
}

/// The lines of a change and what they come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proration {
    /// What is given back, then what is charged.
    pub(crate) lines: [Line; 2],
    /// The sum of the lines, in minor units.
    pub(crate) total_minor: i64,
}

/// Why a change cannot be weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The plans are priced in different currencies: SQLSTATE 22023.
    #[error("the plans are priced in different currencies")]
    CurrenciesDiffer,
    #[error("a price is never negative")]
    NegativePrice,
    /// The change does not lie in a billing period it is weighed over.
    #[error("the change lies outside the billing period")]
    OutsidePeriod,
}

/// Weighs a change at `at` from one price to another, each over its own billing period.
///
/// # Errors
/// [`Refusal`] for prices and periods that do not fit.
pub(crate) fn prorate(
    from: (Price<'_>, BillingPeriod),
    to: (Price<'_>, BillingPeriod),
    at: Timestamp,
) -> Result<Proration, Refusal> {
    if from.0.currency != to.0.currency {
        return Err(Refusal::CurrenciesDiffer);
    }
    let unused = share_left(from, at)?;
    let remaining = share_left(to, at)?;
    Ok(Proration {
        lines: [Line::UnusedTime { amount_minor: -unused }, Line::RemainingTime { amount_minor: remaining }],
        total_minor: remaining - unused, // Both lie between zero and i64::MAX.
    })
}

/// The part of the price for the time from `at` to the end, rounded down; whole seconds, as bills count them.
fn share_left((price, period): (Price<'_>, BillingPeriod), at: Timestamp) -> Result<i64, Refusal> {
    if price.price_minor < 0 {
        return Err(Refusal::NegativePrice);
    }
    if at < period.start_at || at >= period.end_at {
        return Err(Refusal::OutsidePeriod);
    }
    let left_s = i128::from(seconds(period.end_at) - seconds(at));
    let whole_s = i128::from(seconds(period.end_at) - seconds(period.start_at));
    if whole_s <= 0 {
        return Ok(0);
    }
    let share = i128::from(price.price_minor) * left_s / whole_s;
    Ok(i64::try_from(share).unwrap_or(price.price_minor)) // It never exceeds the price.
}

/// Whole seconds since 1970, rounded down before it too.
fn seconds(at: Timestamp) -> i64 {
    at.as_nanosecond().div_euclid(1_000_000_000) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn brl(price_minor: i64) -> Price<'static> {
        Price { price_minor, currency: "BRL" }
    }

    fn period(start: i64, end: i64) -> BillingPeriod {
        BillingPeriod { start_at: at(start), end_at: at(end) }
    }

    fn amounts(proration: Proration) -> [i64; 3] {
        let [unused, remaining] = proration.lines.map(Line::amount_minor);
        [unused, remaining, proration.total_minor]
    }

    #[test]
    fn half_a_month_costs_half_the_difference() {
        let month = period(0, 30 * 86_400);
        let change = prorate((brl(9_900), month), (brl(29_900), month), at(15 * 86_400)).unwrap();
        assert_eq!(amounts(change), [-4_950, 14_950, 10_000]);
    }

    #[test]
    fn shares_are_rounded_down() {
        let change = prorate((brl(100), period(0, 3)), (brl(200), period(0, 3)), at(1)).unwrap();
        assert_eq!(amounts(change), [-66, 133, 67]);
    }

    #[test]
    fn a_month_that_becomes_a_year_is_weighed_over_each() {
        let change = prorate((brl(3_100), period(0, 31)), (brl(36_500), period(0, 365)), at(21)).unwrap();
        assert_eq!(amounts(change), [-1_000, 34_400, 33_400]);
    }

    #[test]
    fn two_currencies_cannot_be_weighed() {
        let dollars = Price { price_minor: 100, currency: "USD" };
        let refused = prorate((brl(100), period(0, 10)), (dollars, period(0, 10)), at(5));
        assert_eq!(refused, Err(Refusal::CurrenciesDiffer));
    }

    #[test]
    fn a_change_after_the_period_cannot_be_weighed() {
        let refused = prorate((brl(100), period(0, 10)), (brl(100), period(0, 10)), at(10));
        assert_eq!(refused, Err(Refusal::OutsidePeriod));
    }

    proptest! {
        #[test]
        fn lines_sum_and_never_exceed_the_price(
            old in 0..i64::MAX, new in 0..i64::MAX,
            start in 0_i64..4_000_000_000, whole in 1_i64..40_000_000, passed in 0_i64..40_000_000,
        ) {
            let month = period(start, start + whole);
            let change = prorate((brl(old), month), (brl(new), month), at(start + passed % whole)).unwrap();
            let [unused, remaining, total] = amounts(change);
            prop_assert_eq!(i128::from(unused) + i128::from(remaining), i128::from(total));
            prop_assert!((-old..=0).contains(&unused) && (0..=new).contains(&remaining));
        }

        #[test]
        fn plans_of_one_price_cancel_each_other_out(
            price in 0..i64::MAX, whole in 1_i64..40_000_000, passed in 0_i64..40_000_000,
        ) {
            let month = period(0, whole);
            let change = prorate((brl(price), month), (brl(price), month), at(passed % whole)).unwrap();
            prop_assert_eq!(change.total_minor, 0);
        }

        #[test]
        fn less_is_given_back_the_later_it_is(
            price in 0..i64::MAX, whole in 2_i64..40_000_000, passed in 0_i64..40_000_000,
        ) {
            let month = period(0, whole);
            let back = |second| prorate((brl(price), month), (brl(0), month), at(second)).map(|it| -it.total_minor);
            let passed = passed % (whole - 1);
            prop_assert!(back(passed).unwrap() >= back(passed + 1).unwrap());
        }
    }
}
