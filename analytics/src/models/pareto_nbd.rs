//! Pareto/NBD: Poisson purchases with Gamma rates until an unobserved end, exponential with Gamma rates.
//!
//! Source: Schmittlein, Morrison and Colombo, Counting Your Customers: Who Are They and What Will They Do Next?,
//! Management Science 33 (1987), in the form of Fader and Hardie, A Note on Deriving the Pareto/NBD Model and Related
//! Expressions (2005).
//!
//! Everything rests on J(R, S; y) = ∫_y^∞ (α+u)^(−R)·(β+u)^(−S) du. The likelihood of a customer is that of being active
//! at T plus that of having stopped in between, s·[J(r+x, s+1; tₓ) − J(r+x, s+1; T)]. J is taken in the form that is
//! left after Euler's transformation (DLMF 15.8.1), F(1, ·; R+S; z), whose terms are positive and small for any x.

use super::error::{Error, finite, not_negative, positive};
use super::hypergeometric::gauss_2f1_of_one;
use super::maximise::{Fit, Problem};
use super::poisson_gamma::{Rates, softplus};
use super::purchase_model::PurchaseModel;
use super::quadrature::integral;
use super::summary::{Sample, Summary};

const NAME: &str = "Pareto/NBD";

/// Gamma(r, alpha) purchase rates, Gamma(s, beta) stopping rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParetoNbd {
    r: f64,
    alpha: f64,
    s: f64,
    beta: f64,
}

impl ParetoNbd {
    pub fn new(r: f64, alpha: f64, s: f64, beta: f64) -> Result<Self, Error> {
        let (r, alpha) = (positive("r", r)?, positive("alpha", alpha)?);
        Ok(ParetoNbd { r, alpha, s: positive("s", s)?, beta: positive("beta", beta)? })
    }

    /// The parameters of maximum likelihood, in the order r, alpha, s, beta.
    pub fn fit(sample: &Sample) -> Result<Fit<Self, 4>, Error> {
        sample.must_suit(NAME, 4)?;
        let scale = sample.mean_age() / 4.0;
        let problem = Problem {
            model: NAME,
            parameters: ["r", "alpha", "s", "beta"],
            start: [0.5, scale, 0.5, scale],
            customers: sample.customers() as f64,
            build: |[r, alpha, s, beta]| ParetoNbd { r, alpha, s, beta },
        };
        problem.maximise(|model| model.log_likelihood(sample))
    }

    /// r, alpha, s, beta.
    pub fn parameters(&self) -> [f64; 4] {
        [self.r, self.alpha, self.s, self.beta]
    }

    pub fn log_likelihood(&self, sample: &Sample) -> f64 {
        let of_x = |x| self.rates().ln_weight(x) + self.s * self.beta.ln();
        sample.sum(of_x, |it| self.ln_active(it) + softplus(self.ln_odds_stopped(it)))
    }

    fn rates(&self) -> Rates {
        Rates { r: self.r, alpha: self.alpha }
    }

    /// ln of (α+T)^(−r−x)·(β+T)^(−s).
    fn ln_active(&self, customer: &Summary) -> f64 {
        let age = customer.age();
        -(self.r + customer.count()) * (self.alpha + age).ln() - self.s * (self.beta + age).ln()
    }

    /// ln of P(stopped)/P(alive).
    fn ln_odds_stopped(&self, customer: &Summary) -> f64 {
        let (r, s) = (self.r + customer.count(), self.s + 1.0);
        let from = self.ln_tail(r, s, customer.t_x());
        let to = self.ln_tail(r, s, customer.age());
        // Rounding may leave `to` a little above `from` where the two are the same instant.
        let ln_between = from + (-(to - from).min(0.0).exp_m1()).ln();
        self.s.ln() + ln_between - self.ln_active(customer)
    }

    /// ln J(`r`, `s`; `y`).
    fn ln_tail(&self, r: f64, s: f64, y: f64) -> f64 {
        let (alpha, beta) = (self.alpha + y, self.beta + y);
        let of_both = -(r + s - 1.0).ln();
        if alpha >= beta {
            let f = gauss_2f1_of_one(r, r + s, (alpha - beta) / alpha);
            of_both - r * alpha.ln() + (1.0 - s) * beta.ln() + f.ln()
        } else {
            let f = gauss_2f1_of_one(s, r + s, (beta - alpha) / beta);
            of_both - s * beta.ln() + (1.0 - r) * alpha.ln() + f.ln()
        }
    }

    /// Expected purchases within `t`, at one purchase per unit of time, of active customers whose stopping rates are
    /// Gamma(s, `beta`).
    fn expected_lifetime(&self, beta: f64, t: f64) -> f64 {
        let (growth, excess) = ((t / beta).ln_1p(), self.s - 1.0);
        if excess == 0.0 { beta * growth } else { -beta * (-excess * growth).exp_m1() / excess }
    }
}

impl PurchaseModel for ParetoNbd {
    fn expected(&self, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        finite("E[X(t)] of Pareto/NBD", self.r / self.alpha * self.expected_lifetime(self.beta, t))
    }

    fn expected_given(&self, customer: &Summary, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        let rate = (self.r + customer.count()) / (self.alpha + customer.age());
        let lifetime = self.expected_lifetime(self.beta + customer.age(), t);
        finite("E[X(t)|x,tx,T] of Pareto/NBD", self.alive(customer) * rate * lifetime)
    }

    fn alive(&self, customer: &Summary) -> f64 {
        1.0 / (1.0 + self.ln_odds_stopped(customer).exp())
    }

    /// P(alive)·E[λ/(λ+μ)·(1 − e^(−(λ+μ)t))], the expectation over the rates of an active customer.
    fn active(&self, customer: &Summary, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        let (r, age) = (self.r + customer.count(), customer.age());
        let now = self.ln_tail(r + 1.0, self.s, age);
        let then = self.ln_tail(r + 1.0, self.s, age + t);
        let next = r * (now - self.ln_active(customer)).exp() * -(then - now).min(0.0).exp_m1();
        finite("P(active) of Pareto/NBD", self.alive(customer) * next)
    }

    fn probability_of(&self, n: u32, t: f64) -> Result<f64, Error> {
        let t = not_negative("t", t)?;
        let not_stopped = (-self.s * (t / self.beta).ln_1p()).exp() * self.rates().exactly(n, t);
        // Over y = ln(1 + τ/scale), which spreads both time scales evenly; τ is when the customer stopped.
        let scale = self.alpha.min(self.beta);
        let stopped = integral((t / scale).ln_1p(), |y| {
            let stop = scale * y.exp_m1();
            let density = self.s / (self.beta + stop) * (-self.s * (stop / self.beta).ln_1p()).exp();
            density * self.rates().exactly(n, stop) * (scale + stop)
        });
        finite("P(X(t)=n) of Pareto/NBD", not_stopped + stopped)
    }
}
