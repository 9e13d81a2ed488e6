//! Customers who stop after a purchase with a probability that differs between them by a Beta distribution: what BG/NBD
//! and MBG/NBD share.
//!
//! Given that a customer is active, purchases until they stop number (1 − e^(−λpt))/p within t. Integrating the Gamma
//! rates and the Beta probabilities gives, as in Fader, Hardie and Lee (2005), equation 9, with C = a + b − 1:
//! C/(a−1)·[1 − (α/(α+t))ʳ·F(r, b; C; z)], z = t/(α+t). Euler's transformation of F, (1−z)^(a−1−r)·F(C−r, a−1; C; z),
//! keeps every factor in range when r, which is r + x for a known customer, is in the thousands. Where C − r is far
//! below zero its terms alternate and cancel; there the first form, whose terms are positive, is summed in logarithms.

use super::hypergeometric::{c_times_gauss_2f1, ln_gauss_2f1_of_positive};
use super::poisson_gamma::Rates;

/// Half the gap around a = 1 that is bridged: there the formula divides zero by zero.
const BRIDGE: f64 = 1e-5;

/// C − r below which the terms of the transformed series would cancel too many digits.
const CANCELLATION: f64 = -12.0;

/// The expected purchases within `t` of an active customer whose stopping probability is Beta(`a`, `b`).
pub(super) fn expected_while_active(rates: Rates, a: f64, b: f64, t: f64) -> f64 {
    if (a - 1.0).abs() < BRIDGE {
        return (expected(rates, 1.0 - BRIDGE, b, t) + expected(rates, 1.0 + BRIDGE, b, t)) / 2.0;
    }
    expected(rates, a, b, t)
}

fn expected(Rates { r, alpha }: Rates, a: f64, b: f64, t: f64) -> f64 {
    let c = a + b - 1.0;
    let z = t / (alpha + t);
    let ln_growth = (t / alpha).ln_1p();
    if c - r < CANCELLATION && c > 0.0 {
        let remaining = (ln_gauss_2f1_of_positive(r, b, c, z) - r * ln_growth).exp();
        return c / (a - 1.0) * (1.0 - remaining);
    }
    let remaining = (-(a - 1.0) * ln_growth).exp();
    (c - remaining * c_times_gauss_2f1(c - r, a - 1.0, c, z)) / (a - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { r: 0.2425945, alpha: 4.4136022 };

    #[test]
    fn the_expectation_is_smooth_where_the_formula_divides_by_zero() {
        // Second differences over a, across a = 1 and across a + b = 1.
        let smooth = |b: f64, middle: f64, step: f64| {
            let at = |a: f64| expected_while_active(RATES, a, b, 39.0);
            let bend = at(middle - step) - 2.0 * at(middle) + at(middle + step);
            assert!(bend.abs() < 1e-2 * step, "{b} {middle} {bend}");
        };
        smooth(2.4, 1.0, 1e-3);
        smooth(2.4, 1.0, 2e-5);
        smooth(0.6, 0.4, 1e-3);
        smooth(0.1, 0.3, 1e-3);
    }

    #[test]
    fn customers_who_hardly_ever_stop_buy_at_their_rate() {
        let expected = expected_while_active(RATES, 1e-7, 5.0, 39.0);
        assert!((expected - RATES.r * 39.0 / RATES.alpha).abs() < 1e-5, "{expected}");
        let soon = expected_while_active(RATES, 0.8, 2.4, 1e-6);
        assert!((soon / (1e-6 * RATES.r / RATES.alpha) - 1.0).abs() < 1e-5, "{soon}");
    }

    #[test]
    fn regular_customers_cost_no_digits() {
        let at = |r: f64| expected_while_active(Rates { r, alpha: 2.0 * r }, 0.8, 2.4, 400.0);
        // On both sides of where the form changes, c - r = -12.
        let (before, after) = (at(14.199), at(14.201));
        assert!((before - after).abs() < 1e-4 * after, "{before} {after}");
        // Rates that do not differ: E[(1 - e^(-p t/2))/p], which no r of thousands may miss.
        let (many, more) = (at(3e3), at(6e3));
        assert!((many - more).abs() < 1e-3 * more, "{many} {more}");
    }

    #[test]
    fn thousands_of_purchases_neither_overflow_nor_jump() {
        let mut before = 0.0;
        for x in [10.0, 132.0, 133.0, 1e3, 5e3, 1e5] {
            let expected = expected_while_active(RATES.given(x, 200.0), 0.8, 2.4 + x, 10.0);
            assert!(expected.is_finite() && expected > before, "{x} {expected}");
            before = expected;
        }
    }
}
