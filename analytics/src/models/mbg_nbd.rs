//! MBG/NBD: BG/NBD in which a customer may also stop right after the first purchase.
//!
//! Source: Batislam, Denizel and Filiztekin, Empirical validation and comparison of models for customer base analysis,
//! International Journal of Research in Marketing 24 (2007).

use statrs::function::beta::ln_beta;

use super::dropout::expected_while_active;
use super::error::{Error, finite, not_negative, positive};
use super::maximise::{Fit, Problem};
use super::poisson_gamma::{Rates, softplus};
use super::purchase_model::PurchaseModel;
use super::summary::{Sample, Summary};

const NAME: &str = "MBG/NBD";

/// Gamma(r, alpha) purchase rates, Beta(a, b) stopping probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MbgNbd {
    r: f64,
    alpha: f64,
    a: f64,
    b: f64,
}

impl MbgNbd {
    pub fn new(r: f64, alpha: f64, a: f64, b: f64) -> Result<Self, Error> {
        let (r, alpha) = (positive("r", r)?, positive("alpha", alpha)?);
        Ok(MbgNbd { r, alpha, a: positive("a", a)?, b: positive("b", b)? })
    }

    /// The parameters of maximum likelihood, in the order r, alpha, a, b.
    pub fn fit(sample: &Sample) -> Result<Fit<Self, 4>, Error> {
        sample.must_suit(NAME, 4)?;
        let problem = Problem {
            model: NAME,
            parameters: ["r", "alpha", "a", "b"],
            start: [0.5, sample.mean_age() / 4.0, 1.0, 2.0],
            customers: sample.customers() as f64,
            build: |[r, alpha, a, b]| MbgNbd { r, alpha, a, b },
        };
        problem.maximise(|model| model.log_likelihood(sample))
    }

    /// r, alpha, a, b.
    pub fn parameters(&self) -> [f64; 4] {
        [self.r, self.alpha, self.a, self.b]
    }

    pub fn log_likelihood(&self, sample: &Sample) -> f64 {
        let ln_beta_ab = ln_beta(self.a, self.b);
        let of_x = |x: f64| self.rates().ln_weight(x) + ln_beta(self.a, self.b + x + 1.0) - ln_beta_ab;
        sample.sum(of_x, |it| softplus(self.ln_odds_stopped(it)) - (self.r + it.count()) * (self.alpha + it.age()).ln())
    }

    fn rates(&self) -> Rates {
        Rates { r: self.r, alpha: self.alpha }
    }

    /// ln of P(stopped)/P(alive).
    fn ln_odds_stopped(&self, customer: &Summary) -> f64 {
        let silence = ((self.alpha + customer.age()) / (self.alpha + customer.t_x())).ln();
        (self.a / (self.b + customer.count())).ln() + (self.r + customer.count()) * silence
    }
}

impl PurchaseModel for MbgNbd {
    fn expected(&self, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        let did_not_stop_at_once = self.b / (self.a + self.b);
        let expected = expected_while_active(self.rates(), self.a, self.b + 1.0, t);
        finite("E[X(t)] of MBG/NBD", did_not_stop_at_once * expected)
    }

    fn expected_given(&self, customer: &Summary, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        let rates = self.rates().given(customer.count(), customer.age());
        let expected = expected_while_active(rates, self.a, self.b + customer.count() + 1.0, t);
        finite("E[X(t)|x,tx,T] of MBG/NBD", self.alive(customer) * expected)
    }

    fn alive(&self, customer: &Summary) -> f64 {
        1.0 / (1.0 + self.ln_odds_stopped(customer).exp())
    }

    fn active(&self, customer: &Summary, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        Ok(self.alive(customer) * self.rates().given(customer.count(), customer.age()).any_within(t))
    }

    fn probability_of(&self, n: u32, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        let (x, ln_beta_ab) = (f64::from(n), ln_beta(self.a, self.b));
        let went_on = (ln_beta(self.a, self.b + x + 1.0) - ln_beta_ab).exp() * self.rates().exactly(n, t);
        let stopped = (ln_beta(self.a + 1.0, self.b + x) - ln_beta_ab).exp() * self.rates().at_least(n, t);
        Ok(went_on + stopped)
    }
}
