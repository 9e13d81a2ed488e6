//! What the purchase models know of a customer: how often they came back, when last, and since when they are one.

use super::error::{Error, not_negative};

/// A customer's history in the three numbers that the models need (x, tₓ, T in the papers).
///
/// Times are since the first purchase, in whatever unit the model is fitted in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    x: u32,
    t_x: f64,
    age: f64,
}

impl Summary {
    /// `x` repeat purchases, the last at `t_x`, seen until `age`; `t_x` is zero if and only if `x` is.
    pub fn new(x: u32, t_x: f64, age: f64) -> Result<Self, Error> {
        not_negative("age", age)?;
        not_negative("t_x", t_x)?;
        if t_x > age || (x == 0) != (t_x == 0.0) {
            return Err(Error::OutOfRange { what: "t_x", value: t_x });
        }
        Ok(Summary { x, t_x, age })
    }

    /// Repeat purchases.
    pub fn x(&self) -> u32 {
        self.x
    }

    /// When the last repeat purchase was.
    pub fn t_x(&self) -> f64 {
        self.t_x
    }

    /// For how long the customer has been seen.
    pub fn age(&self) -> f64 {
        self.age
    }

    pub(super) fn count(&self) -> f64 {
        f64::from(self.x)
    }
}

/// The customers a model is fitted to. Those with the same history are one group, so that each history costs once.
#[derive(Debug, Clone)]
pub struct Sample {
    /// By x, then by the two times.
    groups: Vec<Group>,
    customers: usize,
    mean_age: f64,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    summary: Summary,
    customers: f64,
}

impl Sample {
    pub fn new(customers: impl IntoIterator<Item = Summary>) -> Self {
        let mut all: Vec<Summary> = customers.into_iter().collect();
        all.sort_unstable_by(|a, b| a.x.cmp(&b.x).then(a.age.total_cmp(&b.age)).then(a.t_x.total_cmp(&b.t_x)));
        let mean_age = all.iter().map(|it| it.age).sum::<f64>() / all.len().max(1) as f64;
        let groups = all.chunk_by(|a, b| a == b).map(|it| Group { summary: it[0], customers: it.len() as f64 });
        Sample { groups: groups.collect(), customers: all.len(), mean_age }
    }

    pub fn customers(&self) -> usize {
        self.customers
    }

    /// Different histories.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn mean_age(&self) -> f64 {
        self.mean_age
    }

    /// The sum over customers of what depends on x alone, computed once per x, and of what depends on all three.
    pub(super) fn sum(&self, by_x: impl Fn(f64) -> f64, by_summary: impl Fn(&Summary) -> f64) -> f64 {
        let mut total = 0.0;
        for groups in self.groups.chunk_by(|a, b| a.summary.x == b.summary.x) {
            let of_all = by_x(groups[0].summary.count());
            total += groups.iter().map(|it| it.customers * (of_all + by_summary(&it.summary))).sum::<f64>();
        }
        total
    }

    /// Refuses what no model can be fitted to: fewer than ten customers per parameter, or none that came back.
    pub(super) fn must_suit(&self, model: &'static str, parameters: usize) -> Result<(), Error> {
        let needed = 10 * parameters;
        if self.customers < needed {
            return Err(Error::TooFewCustomers { model, needed, given: self.customers });
        }
        if self.groups.last().is_none_or(|it| it.summary.x == 0) {
            return Err(Error::NoRepeats { model });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_cannot_be_is_refused() {
        for (x, t_x, age) in [(0, 1.0, 2.0), (1, 0.0, 2.0), (1, 3.0, 2.0), (1, -1.0, 2.0), (1, 1.0, f64::NAN)] {
            assert!(Summary::new(x, t_x, age).is_err(), "{x} {t_x} {age}");
        }
        assert!(Summary::new(0, 0.0, 0.0).is_ok());
    }

    #[test]
    fn equal_histories_are_one_group_and_count_each() {
        let one = Summary::new(1, 2.0, 3.0).unwrap();
        let other = Summary::new(1, 2.0, 4.0).unwrap();
        let none = Summary::new(0, 0.0, 3.0).unwrap();
        let sample = Sample::new([one, none, other, one, none, one]);
        assert_eq!((sample.customers(), sample.groups()), (6, 3));
        assert_eq!(sample.sum(|x| x, |it| it.age), 4.0 + 3.0 * 5.0 + 4.0);
        assert_eq!(sample.mean_age(), 19.0 / 6.0);
    }

    #[test]
    fn what_no_model_can_be_fitted_to_is_refused() {
        let none = Summary::new(0, 0.0, 3.0).unwrap();
        let few = Sample::new([none; 39]).must_suit("BG/NBD", 4).unwrap_err();
        assert_eq!(few.to_string(), "BG/NBD needs 40 customers, 39 given");
        let once = Sample::new([none; 40]).must_suit("BG/NBD", 4).unwrap_err();
        assert_eq!(once, Error::NoRepeats { model: "BG/NBD" });
    }
}
