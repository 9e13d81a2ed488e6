//! How long customers stay when many have not left yet: Kaplan–Meier, Nelson–Aalen, restricted mean, log-rank.
//!
//! Source: Kaplan and Meier, Nonparametric Estimation from Incomplete Observations, JASA 53 (1958); the variance is
//! Greenwood's (1926). Intervals are on the log(−log S) scale, which keeps them between 0 and 1: as lifelines does, and R
//! with `conf.type = "log-log"`. A customer who is censored at the time of an event was at risk of it.

use statrs::function::erf::erfc;

use super::error::{Error, not_negative};

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// For how long one customer was seen, and how that ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stay {
    pub time: f64,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Left,
    /// Still a customer when last seen: censored.
    StillThere,
}

/// The curve after one time at which customers left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub time: f64,
    pub at_risk: usize,
    pub left: usize,
    /// The share that stays beyond `time`.
    pub survival: f64,
    /// By Greenwood's formula; `None` where the curve has reached zero, as for the interval.
    pub standard_error: Option<f64>,
    /// The 95 % interval of `survival`.
    pub interval: Option<(f64, f64)>,
    /// Nelson–Aalen: the sum of the shares that left.
    pub cumulative_hazard: f64,
}

/// A survival curve: 1 before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct SurvivalCurve {
    pub steps: Vec<Step>,
    /// The last time at which anyone was seen: the curve says nothing beyond.
    pub seen_until: f64,
}

impl SurvivalCurve {
    /// Estimates the curve; an error if there is no one, or a time is negative or no number.
    pub fn new(stays: &[Stay]) -> Result<Self, Error> {
        if stays.is_empty() {
            return Err(Error::TooFewCustomers { model: "Kaplan–Meier", needed: 1, given: 0 });
        }
        for stay in stays {
            not_negative("time", stay.time)?;
        }
        let mut sorted = stays.to_vec();
        sorted.sort_unstable_by(|a, b| a.time.total_cmp(&b.time));
        let (mut survival, mut greenwood, mut hazard) = (1.0, 0.0, 0.0);
        let mut at_risk = sorted.len();
        let mut steps = Vec::new();
        for same in sorted.chunk_by(|a, b| a.time == b.time) {
            let left = same.iter().filter(|it| it.end == End::Left).count();
            if left > 0 {
                let (n, d) = (at_risk as f64, left as f64);
                survival *= 1.0 - d / n;
                greenwood += d / (n * (n - d));
                hazard += d / n;
                steps.push(Step {
                    time: same[0].time,
                    at_risk,
                    left,
                    survival,
                    standard_error: (survival > 0.0).then(|| survival * f64::sqrt(greenwood)),
                    interval: interval(survival, greenwood),
                    cumulative_hazard: hazard,
                });
            }
            at_risk -= same.len();
        }
        Ok(SurvivalCurve { steps, seen_until: sorted.last().map_or(0.0, |it| it.time) })
    }

    /// The share that stays beyond `time`; `None` after the last time at which anyone was seen, unless all have left.
    pub fn at(&self, time: f64) -> Option<f64> {
        let survival = self.steps.iter().rev().find(|it| it.time <= time).map_or(1.0, |it| it.survival);
        (time <= self.seen_until || survival == 0.0).then_some(survival)
    }

    /// The first time by which half have left; `None` if more than half are still there at the end.
    pub fn median(&self) -> Option<f64> {
        self.steps.iter().find(|it| it.survival <= 0.5 + 1e-12).map(|it| it.time)
    }

    /// The mean time spent as a customer within the first `until`: the area under the curve.
    pub fn restricted_mean(&self, until: f64) -> Result<f64, Error> {
        not_negative("until", until)?;
        if self.at(until).is_none() {
            return Err(Error::OutOfRange { what: "until", value: until });
        }
        let (mut area, mut from, mut survival) = (0.0, 0.0, 1.0);
        for step in self.steps.iter().take_while(|it| it.time < until) {
            area += survival * (step.time - from);
            (from, survival) = (step.time, step.survival);
        }
        Ok(area + survival * (until - from))
    }
}

fn interval(survival: f64, greenwood: f64) -> Option<(f64, f64)> {
    if survival <= 0.0 {
        return None;
    }
    let spread = (Z * greenwood.sqrt() / survival.ln().abs()).exp();
    Some((survival.powf(spread), survival.powf(1.0 / spread)))
}

/// Whether two groups leave at the same rate (Mantel 1966), all times weighing the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogRank {
    /// χ² with one degree of freedom.
    pub statistic: f64,
    pub p_value: f64,
    /// How many of the first group left, and how many would have if the groups were alike.
    pub observed: f64,
    pub expected: f64,
}

impl LogRank {
    pub fn new(first: &[Stay], second: &[Stay]) -> Result<Self, Error> {
        let groups = [(first, true), (second, false)];
        let mut all: Vec<(Stay, bool)> =
            groups.iter().flat_map(|(stays, is_first)| stays.iter().map(|it| (*it, *is_first))).collect();
        all.sort_unstable_by(|a, b| a.0.time.total_cmp(&b.0.time));
        let (mut at_risk, mut first_at_risk) = (all.len() as f64, first.len() as f64);
        let (mut observed, mut expected, mut variance) = (0.0, 0.0, 0.0);
        for same in all.chunk_by(|a, b| a.0.time == b.0.time) {
            let left = same.iter().filter(|it| it.0.end == End::Left).count() as f64;
            observed += same.iter().filter(|it| it.1 && it.0.end == End::Left).count() as f64;
            let share = first_at_risk / at_risk;
            expected += left * share;
            if at_risk > 1.0 {
                variance += left * share * (1.0 - share) * (at_risk - left) / (at_risk - 1.0);
            }
            at_risk -= same.len() as f64;
            first_at_risk -= same.iter().filter(|it| it.1).count() as f64;
        }
        if variance.is_nan() || variance <= 0.0 {
            return Err(Error::NotFinite { what: "log-rank without two groups from which customers left" });
        }
        let statistic = (observed - expected).powi(2) / variance;
        // The upper tail of χ² with one degree of freedom (DLMF 8.4.6).
        Ok(LogRank { statistic, p_value: erfc((statistic / 2.0).sqrt()), observed, expected })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cdnow::{near, near_relative};
    use super::*;

    /// Weeks of remission of 42 leukaemia patients (Freireich and others, Blood 21, 1963), negative if censored: the
    /// example of most textbooks.
    const TREATED: [i32; 21] =
        [6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35];
    const PLACEBO: [i32; 21] = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23];

    fn stays(weeks: &[i32]) -> Vec<Stay> {
        let end = |it: i32| if it > 0 { End::Left } else { End::StillThere };
        weeks.iter().map(|&it| Stay { time: f64::from(it.abs()), end: end(it) }).collect()
    }

    #[test]
    fn the_curve_is_that_of_the_textbooks() {
        let curve = SurvivalCurve::new(&stays(&TREATED)).unwrap();
        // Time, at risk, left, survival, its standard error; then survival and interval of lifelines 0.30.3.
        let expected = [
            (6.0, 21, 3, 0.857, 0.0764, [0.8571428571, 0.6197179553, 0.9515517476]),
            (7.0, 17, 1, 0.807, 0.0869, [0.8067226891, 0.5631465646, 0.9228090192]),
            (10.0, 15, 1, 0.753, 0.0963, [0.7529411765, 0.5031995108, 0.8893618352]),
            (13.0, 12, 1, 0.690, 0.1068, [0.6901960784, 0.4316102225, 0.8490659633]),
            (16.0, 11, 1, 0.627, 0.1141, [0.6274509804, 0.3675108560, 0.8049121895]),
            (22.0, 7, 1, 0.538, 0.1282, [0.5378151261, 0.2677789368, 0.7467907176]),
            (23.0, 6, 1, 0.448, 0.1346, [0.4481792717, 0.1880520060, 0.6801426285]),
        ];
        assert_eq!(curve.steps.len(), expected.len());
        for (step, (time, at_risk, left, survival, error, of_lifelines)) in curve.steps.iter().zip(expected) {
            assert_eq!((step.time, step.at_risk, step.left), (time, at_risk, left));
            near(step.survival, survival, 5.1e-4);
            near(step.standard_error.unwrap(), error, 5.1e-5);
            let (lower, upper) = step.interval.unwrap();
            for (value, expected) in [step.survival, lower, upper].into_iter().zip(of_lifelines) {
                near_relative(value, expected, 1e-9);
            }
        }
        near_relative(curve.restricted_mean(20.0).unwrap(), 16.116526610644254, 1e-12);
        near_relative(curve.restricted_mean(35.0).unwrap(), 23.287394957983185, 1e-12);
        near_relative(curve.steps[2].survival, 18.0 / 21.0 * 16.0 / 17.0 * 14.0 / 15.0, 1e-12);
        near_relative(curve.steps[1].cumulative_hazard, 3.0 / 21.0 + 1.0 / 17.0, 1e-12);
        assert_eq!((curve.median(), curve.at(0.0), curve.at(40.0)), (Some(23.0), Some(1.0), None));
        let placebo = SurvivalCurve::new(&stays(&PLACEBO)).unwrap();
        assert_eq!((placebo.median(), placebo.at(40.0), placebo.steps[11].interval), (Some(8.0), Some(0.0), None));
        // Without censoring the area under the curve is the mean.
        let mean = f64::from(PLACEBO.iter().sum::<i32>()) / 21.0;
        near_relative(placebo.restricted_mean(23.0).unwrap(), mean, 1e-12);
        assert!(curve.restricted_mean(40.0).is_err());
    }

    #[test]
    fn the_groups_differ_as_in_the_textbooks() {
        let test = LogRank::new(&stays(&TREATED), &stays(&PLACEBO)).unwrap();
        assert_eq!(test.observed, 9.0);
        near(test.expected, 19.25, 5.1e-3);
        // Of lifelines 0.30.3.
        near_relative(test.statistic, 16.792940989216547, 1e-12);
        near_relative(test.p_value, 4.168809109334511e-5, 1e-9);
        let same = LogRank::new(&stays(&PLACEBO), &stays(&PLACEBO)).unwrap();
        near(same.statistic, 0.0, 1e-12);
        near(same.p_value, 1.0, 1e-6);
        assert!(LogRank::new(&stays(&PLACEBO), &[]).is_err());
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert!(SurvivalCurve::new(&[]).is_err());
        assert!(SurvivalCurve::new(&[Stay { time: f64::NAN, end: End::Left }]).is_err());
        let never = SurvivalCurve::new(&stays(&[-3, -4])).unwrap();
        assert_eq!((never.steps.len(), never.median(), never.at(4.0)), (0, None, Some(1.0)));
    }

    proptest! {
        #[test]
        fn without_censoring_the_curve_is_the_share_that_remains(times in proptest::collection::vec(1i32..30, 1..60)) {
            let curve = SurvivalCurve::new(&stays(&times)).unwrap();
            for time in 0..30 {
                let share = times.iter().filter(|it| **it > time).count() as f64 / times.len() as f64;
                prop_assert!((curve.at(f64::from(time)).unwrap() - share).abs() < 1e-12);
            }
        }

        #[test]
        fn the_curve_falls_within_its_interval(
            times in proptest::collection::vec((1i32..30, any::<bool>()), 1..60),
        ) {
            let times: Vec<i32> = times.into_iter().map(|(time, left)| if left { time } else { -time }).collect();
            let curve = SurvivalCurve::new(&stays(&times)).unwrap();
            prop_assert!(curve.steps.windows(2).all(|it| it[0].survival > it[1].survival));
            for step in &curve.steps {
                if let Some((lower, upper)) = step.interval {
                    prop_assert!(0.0 <= lower && lower <= step.survival && step.survival <= upper && upper <= 1.0);
                }
            }
        }
    }
}
