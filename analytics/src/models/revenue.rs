//! What stays of the customers and of the revenue that a period began with.
//!
//! Only customers with revenue at the start count; new ones are in none of the three rates. Logo churn = lost/start, gross
//! revenue retention = Σ min(start, end)/Σ start, net revenue retention = Σ end/Σ start. With usage prices, the revenue of
//! a customer is the mean of three months: what the caller passes, and should say.

use super::error::Error;

/// The recurring revenue from one customer at both ends of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revenue {
    pub start_micros: i64,
    pub end_micros: i64,
}

/// The rates of a period. Exact sums, so that the order of customers does not matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retention {
    /// Customers at the start, and those of them without revenue at the end.
    pub customers: usize,
    pub lost: usize,
    pub start_micros: i128,
    /// Lost customers over customers at the start.
    pub logo_churn: f64,
    /// Of one unit of revenue, what is left without counting expansion: at most 1.
    pub gross: f64,
    /// Of one unit of revenue, what it has become.
    pub net: f64,
}

impl Retention {
    /// An error if no customer had revenue at the start, or a revenue is negative.
    pub fn new(customers: &[Revenue]) -> Result<Self, Error> {
        let negative = customers.iter().flat_map(|it| [it.start_micros, it.end_micros]).find(|it| *it < 0);
        if let Some(micros) = negative {
            return Err(Error::OutOfRange { what: "revenue in micros", value: micros as f64 });
        }
        let there = || customers.iter().filter(|it| it.start_micros > 0);
        let count = there().count();
        if count == 0 {
            return Err(Error::TooFewCustomers { model: "retention", needed: 1, given: 0 });
        }
        let lost = there().filter(|it| it.end_micros == 0).count();
        let sum = |by: fn(&Revenue) -> i64| there().map(|it| i128::from(by(it))).sum::<i128>();
        let start_micros = sum(|it| it.start_micros);
        let share = |micros: i128| micros as f64 / start_micros as f64;
        Ok(Retention {
            customers: count,
            lost,
            start_micros,
            logo_churn: lost as f64 / count as f64,
            gross: share(sum(|it| it.start_micros.min(it.end_micros))),
            net: share(sum(|it| it.end_micros)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cdnow::near;
    use super::*;

    fn revenue(start: i64, end: i64) -> Revenue {
        Revenue { start_micros: start * 1_000_000, end_micros: end * 1_000_000 }
    }

    #[test]
    fn the_rates_are_those_of_the_definitions() {
        let customers = [revenue(100, 120), revenue(200, 150), revenue(50, 0), revenue(0, 80)];
        let retention = Retention::new(&customers).unwrap();
        assert_eq!((retention.customers, retention.lost, retention.start_micros), (3, 1, 350_000_000));
        near(retention.logo_churn, 1.0 / 3.0, 1e-15);
        near(retention.gross, 0.714286, 5e-7);
        near(retention.net, 0.771429, 5e-7);
    }

    #[test]
    fn what_has_no_rate_is_refused() {
        assert!(Retention::new(&[revenue(0, 80)]).is_err());
        assert!(Retention::new(&[]).is_err());
        assert!(Retention::new(&[revenue(10, -1)]).is_err());
    }

    proptest! {
        #[test]
        fn gross_is_at_most_one_and_at_most_net(pairs in proptest::collection::vec((1i64.., 0i64..), 1..50)) {
            let mut customers: Vec<Revenue> =
                pairs.into_iter().map(|(start_micros, end_micros)| Revenue { start_micros, end_micros }).collect();
            let retention = Retention::new(&customers).unwrap();
            prop_assert!(retention.gross <= 1.0 && retention.gross <= retention.net);
            customers.reverse();
            customers.push(revenue(0, 5));
            prop_assert_eq!(Retention::new(&customers).unwrap(), retention);
        }
    }
}
