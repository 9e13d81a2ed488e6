//! Integrals of smooth functions by Gauss–Legendre rules on equal panels.
//!
//! Source: Abramowitz and Stegun 25.4.29–25.4.30; the nodes by Newton's method on the Legendre polynomial (DLMF 18.9.1).

const NODES: usize = 16;

/// ∫ f over [0, `to`], on panels no wider than 1/2.
pub(super) fn integral(to: f64, f: impl Fn(f64) -> f64) -> f64 {
    let panels = (2.0 * to).ceil().max(1.0);
    let half = to / panels / 2.0;
    let rule = rule();
    let mut sum = 0.0;
    for panel in 0..panels as u32 {
        let middle = (2.0 * f64::from(panel) + 1.0) * half;
        sum += rule.iter().map(|(node, weight)| weight * f(middle + half * node)).sum::<f64>();
    }
    sum * half
}

/// Nodes on [−1, 1] and their weights.
fn rule() -> [(f64, f64); NODES] {
    let order = NODES as f64;
    std::array::from_fn(|index| {
        let mut node = (std::f64::consts::PI * (index as f64 + 0.75) / (order + 0.5)).cos();
        let mut slope = 0.0;
        for _ in 0..20 {
            let (mut before, mut value) = (1.0, node);
            for n in 1..NODES {
                let n = n as f64;
                (before, value) = (value, ((2.0 * n + 1.0) * node * value - n * before) / (n + 1.0));
            }
            slope = order * (node * value - before) / (node * node - 1.0);
            let step = value / slope;
            node -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        (node, 2.0 / ((1.0 - node * node) * slope * slope))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smooth_functions_are_integrated_to_the_last_digits() {
        assert!((integral(3.0, |x| x.powi(20)) - 3.0_f64.powi(21) / 21.0).abs() < 1e-5);
        assert!((integral(10.0, |x| (-x).exp()) - (1.0 - (-10.0_f64).exp())).abs() < 1e-14);
        assert_eq!(integral(0.0, |x| x), 0.0);
    }
}
