//! Maximum likelihood over positive parameters: BFGS on their logarithms, derivatives by central differences.
//!
//! Source: Nocedal and Wright, Numerical Optimization (2nd edition, 2006), chapter 6 (BFGS) and section 8.1 (finite
//! differences). Own code because the crate for this, argmin, needs `paste`, which is no longer maintained
//! (RUSTSEC-2024-0436) and which `make audit` therefore refuses.
//!
//! The likelihood is divided by the number of customers, so that the tolerances mean the same for every sample.

use super::error::Error;

const MAX_ITERATIONS: u32 = 500;
/// The largest derivative of the mean log-likelihood, by the logarithm of a parameter, that counts as zero.
const GRADIENT: f64 = 1e-7;
/// The same where rounding stops the search before it gets there.
const GRADIENT_OF_A_STALL: f64 = 1e-5;
const GRADIENT_STEP: f64 = 1e-5;
const HESSIAN_STEP: f64 = 5e-4;
/// No step changes a parameter by more than this factor, e².
const LONGEST_STEP: f64 = 2.0;
/// Parameters beyond e±12 of their start, a factor of 160,000, have left for zero or infinity.
const FARTHEST: f64 = 12.0;

/// A model at its maximum likelihood.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit<M, const N: usize> {
    pub model: M,
    pub log_likelihood: f64,
    /// In the order of the parameters; `None` where the likelihood is flat in some direction.
    pub standard_errors: Option<[f64; N]>,
    pub iterations: u32,
}

/// What is maximised.
pub(super) struct Problem<M, const N: usize> {
    pub(super) model: &'static str,
    pub(super) parameters: [&'static str; N],
    pub(super) start: [f64; N],
    /// How many customers the log-likelihood is a sum over.
    pub(super) customers: f64,
    pub(super) build: fn([f64; N]) -> M,
}

type Vector<const N: usize> = [f64; N];
type Matrix<const N: usize> = [[f64; N]; N];

impl<M, const N: usize> Problem<M, N> {
    /// The parameters where `log_likelihood` is greatest, with standard errors from the curvature there.
    pub(super) fn maximise(self, log_likelihood: impl Fn(&M) -> f64) -> Result<Fit<M, N>, Error> {
        let parameters_at = |at: &Vector<N>| -> Vector<N> { std::array::from_fn(|i| self.start[i] * at[i].exp()) };
        let cost = |at: &Vector<N>| -> f64 {
            let value = -log_likelihood(&(self.build)(parameters_at(at))) / self.customers;
            if value.is_nan() { f64::INFINITY } else { value }
        };
        let end = minimise(&cost);
        let at = parameters_at(&end.at);
        if let Some(far) = (0..N).find(|&i| end.at[i].abs() > FARTHEST) {
            let parameter = self.parameters[far];
            return Err(Error::NoMaximum { model: self.model, parameter, value: at[far] });
        }
        let largest = largest(&end.gradient);
        if largest.is_nan() || largest > GRADIENT_OF_A_STALL {
            return Err(Error::NotConverged { model: self.model, iterations: end.iterations, gradient: largest });
        }
        let deviations = inverse(&hessian(&cost, &end.at)).and_then(|inverse| {
            let variances: Vector<N> = std::array::from_fn(|i| inverse[i][i] / self.customers);
            // By the delta method, which is exact at a maximum: d ln θ = dθ/θ.
            variances.iter().all(|it| *it > 0.0).then(|| std::array::from_fn(|i| at[i] * variances[i].sqrt()))
        });
        let log_likelihood = -end.cost * self.customers;
        Ok(Fit { model: (self.build)(at), log_likelihood, standard_errors: deviations, iterations: end.iterations })
    }
}

struct End<const N: usize> {
    at: Vector<N>,
    cost: f64,
    gradient: Vector<N>,
    iterations: u32,
}

fn minimise<const N: usize>(cost: &impl Fn(&Vector<N>) -> f64) -> End<N> {
    let mut at = [0.0; N];
    let mut value = cost(&at);
    let mut gradient = gradient_of(cost, &at);
    let mut curvature = identity();
    let mut iterations = 0;
    while iterations < MAX_ITERATIONS && largest(&gradient) > GRADIENT && largest(&at) <= FARTHEST {
        iterations += 1;
        let Some((next, next_value)) = descend(cost, &at, value, &gradient, &curvature) else {
            if curvature == identity() {
                break;
            }
            curvature = identity();
            continue;
        };
        let next_gradient = gradient_of(cost, &next);
        let step = std::array::from_fn(|i| next[i] - at[i]);
        let change = std::array::from_fn(|i| next_gradient[i] - gradient[i]);
        update(&mut curvature, &step, &change);
        (at, value, gradient) = (next, next_value, next_gradient);
    }
    End { at, cost: value, gradient, iterations }
}

/// A step along the quasi-Newton direction, halved until it descends enough (Armijo); `None` if none does.
fn descend<const N: usize>(
    cost: &impl Fn(&Vector<N>) -> f64,
    at: &Vector<N>,
    value: f64,
    gradient: &Vector<N>,
    curvature: &Matrix<N>,
) -> Option<(Vector<N>, f64)> {
    let direction: Vector<N> = std::array::from_fn(|i| -dot(&curvature[i], gradient));
    let slope = dot(&direction, gradient);
    if slope.is_nan() || slope >= 0.0 {
        return None;
    }
    let mut length = (LONGEST_STEP / largest(&direction)).min(1.0);
    for _ in 0..40 {
        let next = std::array::from_fn(|i| at[i] + length * direction[i]);
        let next_value = cost(&next);
        if next_value <= value + 1e-4 * length * slope && next != *at {
            return Some((next, next_value));
        }
        length /= 2.0;
    }
    None
}

/// The BFGS update of the inverse Hessian (Nocedal and Wright, 6.17), scaled before the first (6.20).
fn update<const N: usize>(inverse: &mut Matrix<N>, step: &Vector<N>, change: &Vector<N>) {
    let product = dot(step, change);
    if product <= 1e-14 {
        return;
    }
    if *inverse == identity() {
        let scale = product / dot(change, change);
        (0..N).for_each(|i| inverse[i][i] = scale);
    }
    let changed: Vector<N> = std::array::from_fn(|i| dot(&inverse[i], change));
    let factor = (1.0 + dot(change, &changed) / product) / product;
    for i in 0..N {
        for j in 0..N {
            inverse[i][j] += factor * step[i] * step[j] - (changed[i] * step[j] + step[i] * changed[j]) / product;
        }
    }
}

fn gradient_of<const N: usize>(cost: &impl Fn(&Vector<N>) -> f64, at: &Vector<N>) -> Vector<N> {
    std::array::from_fn(|i| {
        let shifted = |by: f64| cost(&std::array::from_fn(|j| if i == j { at[j] + by } else { at[j] }));
        (shifted(GRADIENT_STEP) - shifted(-GRADIENT_STEP)) / (2.0 * GRADIENT_STEP)
    })
}

fn hessian<const N: usize>(cost: &impl Fn(&Vector<N>) -> f64, at: &Vector<N>) -> Matrix<N> {
    let h = HESSIAN_STEP;
    let shifted = |i: usize, by_i: f64, j: usize, by_j: f64| {
        let mut shifted = *at;
        shifted[i] += by_i;
        shifted[j] += by_j;
        cost(&shifted)
    };
    let second = |i: usize, j: usize| {
        let same = shifted(i, h, j, h) + shifted(i, -h, j, -h);
        let opposite = shifted(i, h, j, -h) + shifted(i, -h, j, h);
        (same - opposite) / (4.0 * h * h)
    };
    std::array::from_fn(|i| std::array::from_fn(|j| second(i, j)))
}

/// By Gauss–Jordan elimination with pivots; `None` if the matrix is singular.
fn inverse<const N: usize>(matrix: &Matrix<N>) -> Option<Matrix<N>> {
    let (mut left, mut right) = (*matrix, identity());
    for column in 0..N {
        let pivot = (column..N).max_by(|&a, &b| left[a][column].abs().total_cmp(&left[b][column].abs()))?;
        left.swap(column, pivot);
        right.swap(column, pivot);
        let divisor = left[column][column];
        if divisor.is_nan() || divisor.abs() < 1e-12 {
            return None;
        }
        for j in 0..N {
            left[column][j] /= divisor;
            right[column][j] /= divisor;
        }
        for row in (0..N).filter(|&row| row != column) {
            let factor = left[row][column];
            for j in 0..N {
                left[row][j] -= factor * left[column][j];
                right[row][j] -= factor * right[column][j];
            }
        }
    }
    Some(right)
}

fn identity<const N: usize>() -> Matrix<N> {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }))
}

fn dot<const N: usize>(a: &Vector<N>, b: &Vector<N>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest<const N: usize>(vector: &Vector<N>) -> f64 {
    vector.iter().fold(0.0, |most: f64, it| if it.is_nan() || most.is_nan() { f64::NAN } else { most.max(it.abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(start: [f64; 2]) -> Problem<[f64; 2], 2> {
        Problem { model: "test", parameters: ["a", "b"], start, customers: 10.0, build: |at| at }
    }

    #[test]
    fn a_quadratic_is_maximised_and_its_curvature_becomes_standard_errors() {
        // Independent normal errors of 0.1 and 0.5 around 2 and 30.
        let fit = problem([1.0, 1.0])
            .maximise(|[a, b]| -((a - 2.0) / 0.1).powi(2) / 2.0 - ((b - 30.0) / 0.5).powi(2) / 2.0)
            .unwrap();
        assert!((fit.model[0] - 2.0).abs() < 1e-5 && (fit.model[1] - 30.0).abs() < 1e-4, "{fit:?}");
        let errors = fit.standard_errors.unwrap();
        assert!((errors[0] - 0.1).abs() < 1e-4 && (errors[1] - 0.5).abs() < 5e-4, "{fit:?}");
    }

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        let fit = problem([0.3, 3.0]).maximise(|[a, b]| -100.0 * (b - a * a).powi(2) - (1.0 - a).powi(2)).unwrap();
        assert!((fit.model[0] - 1.0).abs() < 1e-4 && (fit.model[1] - 1.0).abs() < 2e-4, "{fit:?}");
    }

    #[test]
    fn a_parameter_that_leaves_is_named() {
        let gone = problem([1.0, 1.0]).maximise(|[a, b]| -(a - 1.0).powi(2) + 10.0 * b.ln()).unwrap_err();
        assert!(matches!(gone, Error::NoMaximum { parameter: "b", .. }), "{gone}");
        let flat = problem([1.0, 1.0]).maximise(|[a, _]| -(a - 2.0).powi(2)).unwrap();
        assert_eq!(flat.standard_errors, None);
        let never = problem([1.0, 1.0]).maximise(|_| f64::NAN).unwrap_err();
        assert!(matches!(never, Error::NotConverged { .. }), "{never}");
    }
}
