//! Quantiles of type 7 of Hyndman and Fan, Sample Quantiles in Statistical Packages, The American Statistician 50 (1996):
//! on the straight line between neighbouring values. The default of R, NumPy and spreadsheets.

/// Values in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sorted(Vec<f64>);

impl Sorted {
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        Sorted(values)
    }

    /// The quantile at `share` between 0 and 1; NaN of no values.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return f64::NAN };
        let position = share.clamp(0.0, 1.0) * last as f64;
        let below = position.floor();
        let (low, high) = (self.0[below as usize], self.0[(below as usize + 1).min(last)]);
        low + (position - below) * (high - low)
    }

    /// The share of values below `value`, equal ones counted half.
    pub(super) fn rank(&self, value: f64) -> f64 {
        let below = self.0.partition_point(|it| *it < value);
        let up_to = self.0.partition_point(|it| *it <= value);
        (below + up_to) as f64 / 2.0 / self.0.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_r() {
        let sorted = Sorted::new([15.0, 20.0, 35.0, 40.0, 50.0]);
        let expected = [(0.0, 15.0), (0.05, 16.0), (0.3, 23.0), (0.4, 29.0), (0.5, 35.0), (1.0, 50.0)];
        for (share, expected) in expected {
            assert!((sorted.quantile(share) - expected).abs() < 1e-12, "{share}");
        }
        assert_eq!(Sorted::new([7.0]).quantile(0.9), 7.0);
        assert!(Sorted::new([]).quantile(0.5).is_nan());
    }

    #[test]
    fn equal_values_share_a_rank() {
        let sorted = Sorted::new([1.0, 2.0, 2.0, 3.0]);
        assert_eq!((sorted.rank(1.0), sorted.rank(2.0), sorted.rank(9.0)), (0.125, 0.5, 1.0));
    }
}
