//! Purchases at a Poisson rate that differs between customers by a Gamma distribution: the part that NBD, BG/NBD,
//! MBG/NBD and Pareto/NBD share.

use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

/// Gamma-distributed purchase rates with shape `r` and rate `alpha`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    pub(super) r: f64,
    pub(super) alpha: f64,
}

impl Rates {
    /// The rates of customers with `x` purchases within `age`, given that they were active all the time.
    pub(super) fn given(self, x: f64, age: f64) -> Rates {
        Rates { r: self.r + x, alpha: self.alpha + age }
    }

    /// ln of Γ(r+x)/Γ(r)·αʳ.
    pub(super) fn ln_weight(self, x: f64) -> f64 {
        ln_gamma(self.r + x) - ln_gamma(self.r) + self.r * self.alpha.ln()
    }

    /// The probability of at least one purchase within `t` while active.
    pub(super) fn any_within(self, t: f64) -> f64 {
        -(-self.r * (t / self.alpha).ln_1p()).exp_m1()
    }

    /// The probability of exactly `n` purchases within `t` while active: negative binomial.
    pub(super) fn exactly(self, n: u32, t: f64) -> f64 {
        let n = f64::from(n);
        if t == 0.0 {
            return if n == 0.0 { 1.0 } else { 0.0 };
        }
        let choose = ln_gamma(self.r + n) - ln_gamma(self.r) - ln_gamma(n + 1.0);
        let ln_share = if n == 0.0 { 0.0 } else { n * (t / (self.alpha + t)).ln() };
        (choose - self.r * (t / self.alpha).ln_1p() + ln_share).exp()
    }

    /// The probability of at least `n` purchases within `t` while active: its upper tail, a regularised incomplete
    /// beta function (DLMF 8.17.24), which keeps its digits where one minus a sum would lose them.
    pub(super) fn at_least(self, n: u32, t: f64) -> f64 {
        match n {
            0 => 1.0,
            _ if t == 0.0 => 0.0,
            _ => beta_reg(f64::from(n), self.r, t / (self.alpha + t)),
        }
    }
}

/// ln(1 + eᵠ) without overflow.
pub(super) fn softplus(q: f64) -> f64 {
    if q > 0.0 { q + (-q).exp().ln_1p() } else { q.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_one_minus_the_sum_before_it() {
        let rates = Rates { r: 0.55, alpha: 10.58 };
        for t in [0.0, 0.5, 39.0, 1e4] {
            let mut below = 0.0;
            for n in 0..40 {
                assert!((rates.at_least(n, t) - (1.0 - below)).abs() < 1e-12, "{n} {t}");
                below += rates.exactly(n, t);
            }
            assert!((rates.any_within(t) - rates.at_least(1, t)).abs() < 1e-12);
        }
    }

    #[test]
    fn softplus_neither_overflows_nor_loses_small_values() {
        assert_eq!(softplus(1e4), 1e4);
        assert_eq!(softplus(-50.0), (-50.0_f64).exp());
        assert_eq!(softplus(f64::NEG_INFINITY), 0.0);
    }
}
