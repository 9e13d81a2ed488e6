//! The CDNOW sample for tests: its purchases, its calibration period of 39 weeks, and the models fitted to it once.

use std::sync::LazyLock;

use jiff::civil::{Date, date};

use super::bg_nbd::BgNbd;
use super::history::{CustomerHistory, Periods, Purchase, TimeUnit};
use super::maximise::Fit;
use super::mbg_nbd::MbgNbd;
use super::pareto_nbd::ParetoNbd;
use super::summary::Sample;

pub(super) const START: Date = date(1997, 1, 1);
pub(super) const CALIBRATION_END: Date = date(1997, 9, 30);
pub(super) const END: Date = date(1998, 6, 30);

pub(super) static PURCHASES: LazyLock<Vec<Purchase<u32>>> = LazyLock::new(|| {
    let text = include_str!("../../../fixtures/cdnow/CDNOW_sample.txt");
    text.lines().filter(|it| !it.trim().is_empty()).map(purchase).collect()
});

fn purchase(line: &str) -> Purchase<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (whole, cents) = fields[4].split_once('.').unwrap();
    let spend_micros = (whole.parse::<i64>().unwrap() * 100 + cents.parse::<i64>().unwrap()) * 10_000;
    assert_eq!(cents.len(), 2, "{line}");
    Purchase { customer: fields[1].parse().unwrap(), day: Date::strptime("%Y%m%d", fields[2]).unwrap(), spend_micros }
}

/// The sample of the paper, in weeks.
pub(super) static HISTORIES: LazyLock<Vec<CustomerHistory<u32>>> = LazyLock::new(|| split(CALIBRATION_END, END));

pub(super) static SAMPLE: LazyLock<Sample> = LazyLock::new(|| sample(&HISTORIES));

pub(super) static BG_NBD: LazyLock<Fit<BgNbd, 4>> = LazyLock::new(|| BgNbd::fit(&SAMPLE).unwrap());
pub(super) static MBG_NBD: LazyLock<Fit<MbgNbd, 4>> = LazyLock::new(|| MbgNbd::fit(&SAMPLE).unwrap());
pub(super) static PARETO_NBD: LazyLock<Fit<ParetoNbd, 4>> = LazyLock::new(|| ParetoNbd::fit(&SAMPLE).unwrap());

/// The sample split at another day, in weeks.
pub(super) fn split(calibration_end: Date, holdout_end: Date) -> Vec<CustomerHistory<u32>> {
    let periods = Periods::new(calibration_end, holdout_end, TimeUnit::Week).unwrap();
    periods.summarise(PURCHASES.iter().copied())
}

pub(super) fn sample(histories: &[CustomerHistory<u32>]) -> Sample {
    Sample::new(histories.iter().map(|it| it.summary))
}

/// Fails unless `value` is within `tolerance` of `expected`.
#[track_caller]
pub(super) fn near(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} ± {tolerance:e}");
}

/// Fails unless `value` is within `tolerance` of `expected`, relative to it.
#[track_caller]
pub(super) fn near_relative(value: f64, expected: f64, tolerance: f64) {
    near(value, expected, tolerance * expected.abs());
}
