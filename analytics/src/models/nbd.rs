//! NBD: Poisson purchases with Gamma rates, and customers who never stop. The baseline that shows what stopping is worth.
//!
//! Source: Ehrenberg, The Pattern of Consumer Purchases, Applied Statistics 8 (1959). The likelihood is that of the
//! purchase times, Γ(r+x)/Γ(r)·αʳ/(α+T)^(r+x), so that it compares with those of the other models.

use super::error::{Error, not_negative, positive};
use super::maximise::{Fit, Problem};
use super::poisson_gamma::Rates;
use super::purchase_model::PurchaseModel;
use super::summary::{Sample, Summary};

const NAME: &str = "NBD";

/// Gamma(r, alpha) purchase rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nbd {
    r: f64,
    alpha: f64,
}

impl Nbd {
    pub fn new(r: f64, alpha: f64) -> Result<Self, Error> {
        Ok(Nbd { r: positive("r", r)?, alpha: positive("alpha", alpha)? })
    }

    /// The parameters of maximum likelihood, in the order r, alpha.
    pub fn fit(sample: &Sample) -> Result<Fit<Self, 2>, Error> {
        sample.must_suit(NAME, 2)?;
        let problem = Problem {
            model: NAME,
            parameters: ["r", "alpha"],
            start: [0.5, sample.mean_age() / 4.0],
            customers: sample.customers() as f64,
            build: |[r, alpha]| Nbd { r, alpha },
        };
        problem.maximise(|model| model.log_likelihood(sample))
    }

    /// r, alpha.
    pub fn parameters(&self) -> [f64; 2] {
        [self.r, self.alpha]
    }

    pub fn log_likelihood(&self, sample: &Sample) -> f64 {
        let of_x = |x| self.rates().ln_weight(x);
        sample.sum(of_x, |it| -(self.r + it.count()) * (self.alpha + it.age()).ln())
    }

    fn rates(&self) -> Rates {
        Rates { r: self.r, alpha: self.alpha }
    }
}

impl PurchaseModel for Nbd {
    fn expected(&self, t: f64) -> Result<f64, Error> {
        Ok(self.r / self.alpha * not_negative("t", t)?)
    }

    fn expected_given(&self, customer: &Summary, t: f64) -> Result<f64, Error> {
        Ok((self.r + customer.count()) / (self.alpha + customer.age()) * not_negative("t", t)?)
    }

    fn alive(&self, _customer: &Summary) -> f64 {
        1.0
    }

    fn active(&self, customer: &Summary, t: f64) -> Result<f64, Error> {
        Ok(self.rates().given(customer.count(), customer.age()).any_within(not_negative("t", t)?))
    }

    fn probability_of(&self, n: u32, t: f64) -> Result<f64, Error> {
        Ok(self.rates().exactly(n, not_negative("t", t)?))
    }
}
