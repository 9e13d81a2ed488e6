//! What the models of repeat purchases have in common, so that a score or a report takes any of them.

use super::error::Error;
use super::summary::Summary;

/// A model of how often customers buy and when they stop. Times are in the unit it was fitted in.
pub trait PurchaseModel {
    /// E[X(t)]: the repeat purchases of a new customer within `t` of the first.
    fn expected(&self, t: f64) -> Result<f64, Error>;

    /// E[X(T, T+t) | x, tₓ, T]: the purchases of this customer within the next `t`.
    fn expected_given(&self, customer: &Summary, t: f64) -> Result<f64, Error>;

    /// The probability that this customer has not stopped for good.
    ///
    /// Not a churn score: under BG/NBD every customer who never came back has 1. Rank by [`PurchaseModel::active`].
    fn alive(&self, customer: &Summary) -> f64;

    /// The probability of at least one purchase of this customer within the next `t`.
    fn active(&self, customer: &Summary, t: f64) -> Result<f64, Error>;

    /// P(X(t) = n): the probability of `n` repeat purchases of a new customer within `t` of the first.
    fn probability_of(&self, n: u32, t: f64) -> Result<f64, Error>;
}
