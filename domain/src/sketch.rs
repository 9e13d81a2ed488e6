//! Two sketches that are stored as arrays, so that SQL can merge them too. Both are canonical: the same values in any order,
//! repeated or split in any way and merged, give the same arrays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Durations with percentiles within 1 %: a DDSketch (Masson, Rim and Lee, VLDB 2019) over whole milliseconds.
///
/// A value `v` is counted in the bucket `ceil(ln v / ln γ)`, γ = 1.01 / 0.99; zero and less in bucket -1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Durations {
    counts: BTreeMap<i32, i64>,
}

/// The relative error of a percentile.
pub const RELATIVE_ERROR: f64 = 0.01;
const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);
const ZERO: i32 = -1;

impl Durations {
    pub fn add(&mut self, ms: i64) {
        *self.counts.entry(bucket(ms)).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Durations) {
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
    }

    pub fn count(&self) -> i64 {
        self.counts.values().sum()
    }

    /// The value below or at which that share of the values is, `share` from 0 to 1; `None` without values. The rank is
    /// `floor(share · (n - 1))`, from zero.
    pub fn quantile(&self, share: f64) -> Option<i64> {
        let last = self.count() - 1;
        if last < 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "a rank among fewer than 2^53"
        )]
        let rank = (share.clamp(0.0, 1.0) * last as f64).floor() as i64;
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += count;
            if seen > rank {
                return Some(value(*bucket));
            }
        }
        None
    }

    /// How many buckets have values.
    pub fn buckets(&self) -> usize {
        self.counts.len()
    }

    /// Buckets, ascending, and their counts.
    pub fn columns(&self) -> (Vec<i32>, Vec<i64>) {
        self.counts.iter().unzip()
    }

    /// The sketch of stored columns.
    pub fn of_columns(buckets: &[i32], counts: &[i64]) -> Self {
        Durations { counts: buckets.iter().copied().zip(counts.iter().copied()).collect() }
    }
}

fn bucket(ms: i64) -> i32 {
    if ms <= 0 {
        return ZERO;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "ln of an i64 is below 44")]
    let index = ((ms as f64).ln() / GAMMA.ln()).ceil() as i32;
    index
}

/// The middle of a bucket in relative terms.
fn value(bucket: i32) -> i64 {
    if bucket == ZERO {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a bucket of an i64")]
    let middle = (2.0 * GAMMA.powi(bucket) / (GAMMA + 1.0)).round() as i64;
    middle
}

/// How many hashes are kept.
pub const MAX_HASHES: usize = 2_048;

/// How many different ids there are: exactly up to [`MAX_HASHES`], beyond that within about 2 % (one standard error,
/// `1 / sqrt(k - 2)`), from the k smallest hashes (Bar-Yossef et al., RANDOM 2002; Beyer et al., SIGMOD 2007).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Distinct {
    /// Ascending, each once.
    hashes: Vec<u64>,
}

impl Distinct {
    /// Adds an id, which is itself a hash: a UUID of version 5.
    pub fn add(&mut self, id: &[u8]) {
        self.insert(hash(id));
    }

    fn insert(&mut self, hash: u64) {
        if self.hashes.len() == MAX_HASHES && self.hashes.last().is_some_and(|last| hash >= *last) {
            return;
        }
        if let Err(at) = self.hashes.binary_search(&hash) {
            self.hashes.insert(at, hash);
            self.hashes.truncate(MAX_HASHES);
        }
    }

    pub fn merge(&mut self, other: &Distinct) {
        let mut all = Vec::with_capacity(self.hashes.len() + other.hashes.len());
        all.extend_from_slice(&self.hashes);
        all.extend_from_slice(&other.hashes);
        all.sort_unstable();
        all.dedup();
        all.truncate(MAX_HASHES);
        self.hashes = all;
    }

    pub fn estimate(&self) -> i64 {
        let kept = self.hashes.len();
        match self.hashes.last() {
            Some(&largest) if kept == MAX_HASHES && largest > 0 => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "an estimate")]
                let estimate = ((kept - 1) as f64 / (largest as f64 / u64::MAX as f64)).round() as i64;
                estimate
            }
            _ => i64::try_from(kept).unwrap_or(i64::MAX),
        }
    }

    /// How many hashes it holds.
    pub fn hashes(&self) -> usize {
        self.hashes.len()
    }

    /// The hashes as Postgres stores them: 63 bits, ascending.
    pub fn column(&self) -> Vec<i64> {
        self.hashes.iter().map(|it| i64::try_from(it >> 1).unwrap_or(i64::MAX)).collect()
    }

    /// The sketch of a stored column.
    pub fn of_column(hashes: &[i64]) -> Self {
        Distinct { hashes: hashes.iter().map(|it| it.unsigned_abs() << 1).collect() }
    }
}

/// 63 bits of an id: SplitMix64's finalizer over its two halves, since not every bit of a UUID is random.
fn hash(id: &[u8]) -> u64 {
    let half = |bytes: &[u8]| bytes.iter().fold(0u64, |all, byte| (all << 8) | u64::from(*byte));
    let (high, low) = id.split_at(id.len().min(8));
    mix(half(high) ^ mix(half(&low[..low.len().min(8)]))) & !1
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn durations(values: &[i64]) -> Durations {
        let mut all = Durations::default();
        values.iter().for_each(|it| all.add(*it));
        all
    }

    fn distinct(ids: impl IntoIterator<Item = u64>) -> Distinct {
        let mut all = Distinct::default();
        ids.into_iter().for_each(|it| all.add(uuid::Uuid::new_v5(&uuid::Uuid::nil(), &it.to_be_bytes()).as_bytes()));
        all
    }

    #[test]
    fn percentiles_are_within_one_per_cent() {
        let values: Vec<i64> = (1..=10_000).collect();
        let all = durations(&values);
        for share in [0.0, 0.01, 0.5, 0.95, 0.99, 1.0] {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank of the test")]
            let exact = values[(share * 9_999.0_f64).floor() as usize];
            let (got, exact) = (all.quantile(share).unwrap() as f64, exact as f64);
            assert!((got - exact).abs() <= RELATIVE_ERROR * exact + 0.5, "{share}: {got}, exactly {exact}");
        }
        assert_eq!(durations(&[]).quantile(0.5), None);
        assert_eq!(durations(&[0]).quantile(0.5), Some(0));
        assert_eq!(durations(&[-5, i64::MAX]).quantile(0.0), Some(0));
    }

    #[test]
    fn few_ids_are_counted_exactly_and_many_within_seven_per_cent() {
        assert_eq!(distinct(0..2_047).estimate(), 2_047);
        assert_eq!(distinct((0..500).chain(0..500)).estimate(), 500);
        let many = distinct(0..50_000).estimate();
        assert!((46_500..=53_500).contains(&many), "{many}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_order_the_repeats_and_the_split_of_ids_change_nothing(mut ids in prop::collection::vec(0u64..4_000, 0..6_000), at in 0usize..6_000) {
            let whole = distinct(ids.iter().copied());
            let at = at.min(ids.len());
            let mut merged = distinct(ids[at..].iter().copied());
            merged.merge(&distinct(ids[..at].iter().copied()));
            prop_assert_eq!(&merged, &whole);
            ids.reverse();
            prop_assert_eq!(&distinct(ids.iter().chain(&ids).copied()), &whole);
            prop_assert_eq!(&Distinct::of_column(&whole.column()), &whole);
        }

        #[test]
        fn the_order_and_the_split_of_durations_change_nothing(mut values in prop::collection::vec(0i64..1_000_000, 0..500), at in 0usize..500) {
            let whole = durations(&values);
            let at = at.min(values.len());
            let mut merged = durations(&values[at..]);
            merged.merge(&durations(&values[..at]));
            prop_assert_eq!(&merged, &whole);
            values.reverse();
            prop_assert_eq!(&durations(&values), &whole);
            let (buckets, counts) = whole.columns();
            prop_assert_eq!(&Durations::of_columns(&buckets, &counts), &whole);
        }
    }
}
