//! Gamma-Gamma: how much a customer spends per purchase, independent of how often they buy.
//!
//! Source: Fader and Hardie, The Gamma-Gamma Model of Monetary Value (2013), equations 1a (likelihood) and 5
//! (conditional expectation).

use statrs::function::gamma::ln_gamma;

use super::error::{Error, finite, not_negative, positive};
use super::maximise::{Fit, Problem};

const NAME: &str = "Gamma-Gamma";

/// The mean amount of a customer's repeat purchases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spend {
    /// Repeat purchases.
    pub x: u32,
    /// Their mean amount; zero if there are none.
    pub mean: f64,
}

/// Gamma(p, ν) amounts per purchase, ν itself Gamma(q, v) between customers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GammaGamma {
    p: f64,
    q: f64,
    v: f64,
}

impl GammaGamma {
    pub fn new(p: f64, q: f64, v: f64) -> Result<Self, Error> {
        Ok(GammaGamma { p: positive("p", p)?, q: positive("q", q)?, v: positive("v", v)? })
    }

    /// The parameters of maximum likelihood, in the order p, q, v.
    ///
    /// Customers who never came back, or came back without spending, say nothing and are left out.
    pub fn fit(customers: impl IntoIterator<Item = Spend>) -> Result<Fit<Self, 3>, Error> {
        let mut spends = Vec::new();
        for spend in customers {
            not_negative("mean spend", spend.mean)?;
            if spend.x > 0 && spend.mean > 0.0 {
                spends.push(spend);
            }
        }
        if spends.len() < 30 {
            return Err(Error::TooFewCustomers { model: NAME, needed: 30, given: spends.len() });
        }
        spends.sort_unstable_by(|a, b| a.x.cmp(&b.x).then(a.mean.total_cmp(&b.mean)));
        let mean = spends.iter().map(|it| it.mean).sum::<f64>() / spends.len() as f64;
        let problem = Problem {
            model: NAME,
            parameters: ["p", "q", "v"],
            start: [3.0, 3.0, mean],
            customers: spends.len() as f64,
            build: |[p, q, v]| GammaGamma { p, q, v },
        };
        problem.maximise(|model| model.log_likelihood(&spends))
    }

    /// p, q, v.
    pub fn parameters(&self) -> [f64; 3] {
        [self.p, self.q, self.v]
    }

    /// The log-likelihood of customers who came back and spent; runs of equal x are cheapest.
    pub fn log_likelihood(&self, customers: &[Spend]) -> f64 {
        let GammaGamma { p, q, v } = *self;
        let of_all = q * v.ln() - ln_gamma(q);
        let mut total = 0.0;
        for same in customers.chunk_by(|a, b| a.x == b.x) {
            let x = f64::from(same[0].x);
            let of_x = ln_gamma(p * x + q) - ln_gamma(p * x) + p * x * x.ln();
            let of_mean = |mean: f64| (p * x - 1.0) * mean.ln() - (p * x + q) * (v + x * mean).ln();
            total += same.iter().map(|it| of_all + of_x + of_mean(it.mean)).sum::<f64>();
        }
        total
    }

    /// `E[Z]`: the mean amount of a customer without any known purchase; infinite, hence an error, for q ≤ 1.
    pub fn expected(&self) -> Result<f64, Error> {
        if self.q <= 1.0 {
            return Err(Error::OutOfRange { what: "q", value: self.q });
        }
        Ok(self.p * self.v / (self.q - 1.0))
    }

    /// E[M | x, m]: the mean amount of this customer's purchases, between what they spent and what all spend.
    pub fn expected_given(&self, customer: &Spend) -> Result<f64, Error> {
        if customer.x == 0 {
            return self.expected();
        }
        let x = f64::from(customer.x);
        let mean = not_negative("mean spend", customer.mean)?;
        let weight = positive("p·x + q - 1", self.p * x + self.q - 1.0)?;
        finite("E[M|x,m] of Gamma-Gamma", self.p * (self.v + x * mean) / weight)
    }
}
