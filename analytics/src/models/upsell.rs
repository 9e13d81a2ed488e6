//! Whether a company will need a larger limit, from its use so far.

use super::error::{Error, not_negative, positive};

/// A limit and its use within the current period.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitUse {
    /// What is limited, by its name in the catalogue.
    pub feature: String,
    pub limit: i64,
    pub used: i64,
    /// How much of the period has passed, above 0 and up to 1.
    pub elapsed: f64,
    /// What was used in the periods before, oldest first.
    pub past: Vec<i64>,
}

/// What the use of a limit comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Projection {
    /// Use over limit now, and at the end of the period at the rate so far.
    pub share: f64,
    pub projected_share: f64,
    /// Growth per period over the past ones, by their compound rate; `None` with fewer than three, or from zero.
    pub growth: Option<f64>,
    /// Of the last three past periods, those that reached the limit.
    pub times_reached: usize,
}

/// Shares of a period below which a projection is mostly noise; the use so far is then all that is projected.
const EARLIEST: f64 = 0.2;

impl LimitUse {
    pub fn project(&self) -> Result<Projection, Error> {
        let limit = positive("limit", self.limit as f64)?;
        let used = not_negative("used", self.used as f64)?;
        let elapsed = positive("elapsed", self.elapsed)?;
        if elapsed > 1.0 {
            return Err(Error::OutOfRange { what: "elapsed", value: elapsed });
        }
        if let Some(past) = self.past.iter().find(|it| **it < 0) {
            return Err(Error::OutOfRange { what: "past use", value: *past as f64 });
        }
        let share = used / limit;
        let projected_share = if elapsed < EARLIEST { share } else { share / elapsed };
        let recent = self.past.iter().rev().take(3);
        let times_reached = recent.filter(|it| **it >= self.limit).count();
        Ok(Projection { share, projected_share, growth: self.growth(), times_reached })
    }

    fn growth(&self) -> Option<f64> {
        let [first, .., last] = self.past.as_slice() else { return None };
        let periods = self.past.len() - 1;
        let can_grow = periods >= 2 && *first > 0;
        can_grow.then(|| (*last as f64 / *first as f64).powf(1.0 / periods as f64) - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(used: i64, elapsed: f64, past: &[i64]) -> LimitUse {
        LimitUse { feature: "messages".to_owned(), limit: 1_000, used, elapsed, past: past.to_vec() }
    }

    #[test]
    fn use_is_projected_to_the_end_of_the_period() {
        let projection = limit(450, 0.5, &[400, 800, 1_600]).project().unwrap();
        assert_eq!((projection.share, projection.projected_share, projection.times_reached), (0.45, 0.9, 1));
        assert!((projection.growth.unwrap() - 1.0).abs() < 1e-12);
        let early = limit(200, 0.1, &[0, 5, 9]).project().unwrap();
        assert_eq!((early.projected_share, early.growth), (0.2, None));
        assert_eq!(limit(1, 1.0, &[5, 9]).project().unwrap().growth, None);
    }

    #[test]
    fn what_is_no_use_is_refused() {
        assert!(limit(-1, 0.5, &[]).project().is_err());
        assert!(limit(1, 0.0, &[]).project().is_err());
        assert!(limit(1, 1.5, &[]).project().is_err());
        assert!(limit(1, 0.5, &[-3]).project().is_err());
        assert!(LimitUse { limit: 0, ..limit(1, 0.5, &[]) }.project().is_err());
    }
}
