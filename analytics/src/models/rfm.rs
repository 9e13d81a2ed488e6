//! RFM: customers by how recently, how often and for how much they bought, in fifths.
//!
//! A score is one more than the number of cuts, at the 20, 40, 60 and 80 % quantiles, that the value exceeds; recency is
//! reversed, so that 5 is always best. Equal values have equal scores, so that a fifth may be empty: cutting by position
//! instead (`ntile`) would give customers with the same history different scores.

use super::error::{Error, not_negative};
use super::quantile::Sorted;
use super::segments::{STANDARD, Segment};

/// What a customer is scored by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activity {
    /// From the last purchase to the day of analysis: the day after the last event of the company.
    pub days_since_last: f64,
    /// Days with a purchase, the first included.
    pub purchases: f64,
    /// All that was spent, in any one unit.
    pub spent: f64,
}

/// Scores from 1 to 5, 5 best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scores {
    pub recency: u8,
    pub frequency: u8,
    pub monetary: u8,
}

impl Scores {
    /// The segment of the standard map.
    pub fn segment(&self) -> Segment {
        STANDARD.at(self.recency, self.frequency)
    }
}

/// The cuts between a company's scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuts {
    pub days_since_last: [f64; 4],
    pub purchases: [f64; 4],
    pub spent: [f64; 4],
}

impl Cuts {
    /// The cuts of a company's customers; there is at least one.
    pub fn of(customers: &[Activity]) -> Result<Self, Error> {
        if customers.is_empty() {
            return Err(Error::TooFewCustomers { model: "RFM", needed: 1, given: 0 });
        }
        for customer in customers {
            not_negative("days since the last purchase", customer.days_since_last)?;
            not_negative("purchases", customer.purchases)?;
            if !customer.spent.is_finite() {
                return Err(Error::OutOfRange { what: "spent", value: customer.spent });
            }
        }
        let cuts = |by: fn(&Activity) -> f64| {
            let sorted = Sorted::new(customers.iter().map(by));
            [0.2, 0.4, 0.6, 0.8].map(|share| sorted.quantile(share))
        };
        Ok(Cuts {
            days_since_last: cuts(|it| it.days_since_last),
            purchases: cuts(|it| it.purchases),
            spent: cuts(|it| it.spent),
        })
    }

    pub fn scores(&self, customer: &Activity) -> Scores {
        Scores {
            recency: 6 - score(customer.days_since_last, &self.days_since_last),
            frequency: score(customer.purchases, &self.purchases),
            monetary: score(customer.spent, &self.spent),
        }
    }
}

fn score(value: f64, cuts: &[f64; 4]) -> u8 {
    cuts.iter().fold(1, |score, cut| score + u8::from(value > *cut))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::civil::{Date, date};

    use super::super::cdnow::{PURCHASES, near};
    use super::*;

    const ANALYSIS: Date = date(1998, 7, 1);

    fn activities() -> Vec<Activity> {
        let mut customers: BTreeMap<u32, BTreeMap<Date, i64>> = BTreeMap::new();
        for it in PURCHASES.iter() {
            *customers.entry(it.customer).or_default().entry(it.day).or_default() += it.spend_micros;
        }
        let activity = |days: &BTreeMap<Date, i64>| Activity {
            days_since_last: (ANALYSIS.duration_since(*days.last_key_value().unwrap().0).as_hours() / 24) as f64,
            purchases: days.len() as f64,
            spent: days.values().sum::<i64>() as f64 / 1e6,
        };
        customers.values().map(activity).collect()
    }

    #[test]
    fn cuts_and_scores_of_cdnow_are_as_recomputed() {
        let customers = activities();
        let cuts = Cuts::of(&customers).unwrap();
        assert_eq!(cuts.days_since_last, [153.0, 443.0, 487.0, 513.0]);
        assert_eq!(cuts.purchases, [1.0, 1.0, 2.0, 4.0]);
        for (cut, expected) in cuts.spent.into_iter().zip([15.36, 31.958, 59.25, 130.436]) {
            near(cut, expected, 1e-9);
        }
        let scores: Vec<Scores> = customers.iter().map(|it| cuts.scores(it)).collect();
        let counts = |by: fn(&Scores) -> u8| [1, 2, 3, 4, 5].map(|it| scores.iter().filter(|s| by(s) == it).count());
        assert_eq!(counts(|it| it.recency), [459, 478, 475, 471, 474]);
        assert_eq!(counts(|it| it.frequency), [1_218, 0, 403, 358, 378]);
        assert_eq!(counts(|it| it.monetary), [481, 462, 472, 470, 472]);
    }

    #[test]
    fn segments_of_cdnow_are_as_recomputed() {
        let customers = activities();
        let cuts = Cuts::of(&customers).unwrap();
        let mut counts: BTreeMap<Segment, usize> = BTreeMap::new();
        for it in &customers {
            *counts.entry(cuts.scores(it).segment()).or_default() += 1;
        }
        let expected = [
            (Segment::Hibernating, 855),
            (Segment::Champions, 414),
            (Segment::AboutToSleep, 363),
            (Segment::Loyal, 311),
            (Segment::PotentialLoyalists, 250),
            (Segment::NeedAttention, 82),
            (Segment::AtRisk, 80),
            (Segment::CantLose, 2),
        ];
        assert_eq!(counts, expected.into_iter().collect());
    }

    #[test]
    fn equal_values_share_a_score() {
        let same = Activity { days_since_last: 3.0, purchases: 1.0, spent: 9.5 };
        let cuts = Cuts::of(&[same; 7]).unwrap();
        assert_eq!(cuts.scores(&same), Scores { recency: 5, frequency: 1, monetary: 1 });
        assert!(Cuts::of(&[]).is_err());
        assert!(Cuts::of(&[Activity { spent: f64::NAN, ..same }]).is_err());
    }
}
