//! The Gauss hypergeometric function F(a, b; c; z) = Σ (a)ₙ(b)ₙ/(c)ₙ·zⁿ/n! on 0 ≤ z < 1, as the purchase models need it.
//!
//! Source: NIST Digital Library of Mathematical Functions, chapter 15 (Abramowitz and Stegun, chapter 15). No
//! maintained crate has it. A series that does not converge gives NaN, which callers turn into an error.

/// Terms after which a series is given up: enough for z up to about 1 − 2e−4.
const MAX_TERMS: u32 = 200_000;
/// Steps after which a continued fraction is given up: enough for z up to about 1 − 1e−6.
const MAX_STEPS: u32 = 10_000;

/// F(a, b; c; z) for c > 0 and 0 ≤ z < 1; NaN elsewhere.
///
/// The power series (DLMF 15.2.1), after Euler's transformation (DLMF 15.8.1) where the plain one would grow towards
/// z = 1.
pub(super) fn gauss_2f1(a: f64, b: f64, c: f64, z: f64) -> f64 {
    if !(c > 0.0 && (0.0..1.0).contains(&z)) {
        return f64::NAN;
    }
    let excess = c - a - b;
    if excess < 0.0 { (1.0 - z).powf(excess) * series(c - a, c - b, c, z) } else { series(a, b, c, z) }
}

/// c·F(a, b; c; z) for c > −1: regular where F itself has a pole at c = 0.
///
/// Below 1/2 by the relation between neighbours in c (DLMF 15.5.18).
pub(super) fn c_times_gauss_2f1(a: f64, b: f64, c: f64, z: f64) -> f64 {
    if c > 0.5 {
        return c * gauss_2f1(a, b, c, z);
    }
    let next = gauss_2f1(a, b, c + 1.0, z);
    let after = gauss_2f1(a, b, c + 2.0, z);
    let first = (c - (2.0 * c + 1.0 - a - b) * z) * next;
    (first + (c + 1.0 - a) * (c + 1.0 - b) * z / (c + 1.0) * after) / (1.0 - z)
}

/// F(1, b; c; z) for b > 0, c > b and 0 ≤ z < 1.
///
/// By Gauss's continued fraction (DLMF 15.7.1 with one numerator parameter zero), evaluated from the front by the
/// method of Lentz. All its coefficients are positive and below one; near z = 1 it takes about √(1−z) times as many
/// steps as the series takes terms.
pub(super) fn gauss_2f1_of_one(b: f64, c: f64, z: f64) -> f64 {
    let (mut value, mut upper, mut lower, mut n) = (1.0, f64::INFINITY, 1.0, 0.0);
    for _ in 0..MAX_STEPS {
        let odd = (b + n) * (c - 1.0 + n) / ((c - 1.0 + 2.0 * n) * (c + 2.0 * n));
        n += 1.0;
        let even = n * (c - 1.0 - b + n) / ((c + 2.0 * n - 2.0) * (c - 1.0 + 2.0 * n));
        let before = value;
        for coefficient in [odd, even] {
            upper = 1.0 - coefficient * z / upper;
            lower = 1.0 / (1.0 - coefficient * z * lower);
            value *= upper * lower;
        }
        if (value - before).abs() <= 1e-15 * value {
            return value;
        }
    }
    f64::NAN
}

/// ln F(a, b; c; z) for positive a, b, c and 0 ≤ z < 1, where F itself may be beyond the range of a float.
pub(super) fn ln_gauss_2f1_of_positive(a: f64, b: f64, c: f64, z: f64) -> f64 {
    const LARGE: f64 = 1e200;
    let (mut sum, mut term, mut n, mut ln_scale) = (1.0, 1.0, 0.0, 0.0);
    for _ in 0..MAX_TERMS {
        let ratio = (a + n) * (b + n) / ((c + n) * (1.0 + n)) * z;
        term *= ratio;
        sum += term;
        n += 1.0;
        if sum > LARGE {
            (sum, term) = (sum / LARGE, term / LARGE);
            ln_scale += LARGE.ln();
        }
        let largest = ratio.max(z);
        if term * largest <= f64::EPSILON * 0.25 * sum * (1.0 - largest) {
            return ln_scale + sum.ln();
        }
    }
    f64::NAN
}

fn series(a: f64, b: f64, c: f64, z: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0_f64, 1.0_f64, 0.0_f64);
    for _ in 0..MAX_TERMS {
        let ratio = (a + n) * (b + n) / ((c + n) * (1.0 + n)) * z;
        term *= ratio;
        sum += term;
        n += 1.0;
        if !sum.is_finite() {
            return f64::NAN;
        }
        // Past the signs of a and b the ratios tend to z, so that the rest is at most a geometric series.
        let largest = ratio.abs().max(z);
        let is_settled = n + a > 0.0 && n + b > 0.0;
        if term == 0.0 || is_settled && term.abs() * largest <= f64::EPSILON * 0.25 * sum.abs() * (1.0 - largest) {
            return sum;
        }
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-12 * expected.abs(), "{value} is not {expected}");
    }

    #[test]
    fn elementary_cases_agree() {
        for z in [0.0_f64, 1e-9, 0.1, 0.5, 0.9, 0.999] {
            if z > 0.0 {
                near(gauss_2f1(1.0, 1.0, 2.0, z), -(-z).ln_1p() / z); // DLMF 15.4.1
                near(gauss_2f1(0.5, 1.0, 1.5, z * z), z.atanh() / z); // DLMF 15.4.2
                near(gauss_2f1(0.5, 0.5, 1.5, z * z), z.asin() / z); // DLMF 15.4.4
            }
            near(gauss_2f1(2.5, 0.7, 0.7, z), (1.0 - z).powf(-2.5)); // DLMF 15.4.6
            near(gauss_2f1_of_one(3.5, 3.5, z), 1.0 / (1.0 - z));
            near(gauss_2f1_of_one(1.3, 4.2, z), gauss_2f1(1.0, 1.3, 4.2, z));
        }
        near(gauss_2f1(-3.0, 2.0, 5.0, 0.5), 1.0 - 0.6 + 0.15 - 1.0 / 70.0);
    }

    #[test]
    fn the_relation_between_neighbours_agrees_with_the_series() {
        for (a, b, c, z) in [(0.1, -0.3, 0.4, 0.9), (0.2, 0.4, 0.45, 0.3), (-0.2, -0.8, 0.2, 0.6)] {
            near(c_times_gauss_2f1(a, b, c, z), c * gauss_2f1(a, b, c, z));
        }
    }

    #[test]
    fn values_beyond_the_range_of_a_float_have_a_logarithm() {
        near(ln_gauss_2f1_of_positive(0.7, 1.4, 2.3, 0.6), gauss_2f1(0.7, 1.4, 2.3, 0.6).ln());
        near(ln_gauss_2f1_of_positive(5000.0, 3.2, 3.2, 0.9), 5000.0 * 10.0_f64.ln());
    }

    #[test]
    fn what_has_no_value_is_no_number() {
        assert!(gauss_2f1(1.0, 1.0, 2.0, 1.0).is_nan());
        assert!(gauss_2f1(1.0, 1.0, -2.0, 0.5).is_nan());
        assert!(gauss_2f1(1.0, 1.0, 2.0, -0.5).is_nan());
    }
}
