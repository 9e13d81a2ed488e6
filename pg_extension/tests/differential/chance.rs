//! Chance that can be repeated: one seed, from outside or from the machine, decides every step.

use std::hash::{BuildHasher, RandomState};

/// `SECRETARIA_TEST_SEED`, or another one each time.
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
pub(crate) fn seed() -> u64 {
    match std::env::var("SECRETARIA_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("SECRETARIA_TEST_SEED is no number: {seed}")),
        Err(_) => RandomState::new().hash_one("seed") % 1_000_000,
    }
}

/// Numbers that follow from the seed: SplitMix64 (Steele, Lea, Flood 2014, figure 17).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
