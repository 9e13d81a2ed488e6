//! Isotonic regression: the rising step function from score to probability that fits outcomes best.
//!
//! Source: the pool-adjacent-violators algorithm of Ayer, Brunk, Ewing, Reid and Silverman, An Empirical Distribution
//! Function for Sampling with Incomplete Information, Annals of Mathematical Statistics 26 (1955).

use super::error::Error;
use super::evaluation::Scored;

/// Outcomes below which a step would rather remember than generalise.
const FEWEST: usize = 50;

/// A map from scores to probabilities that never falls.
#[derive(Debug, Clone, PartialEq)]
pub struct Isotonic {
    /// By score: the mean score of a pooled block, and the share of its outcomes that came.
    blocks: Vec<(f64, f64)>,
}

struct Block {
    score: f64,
    came: f64,
    customers: f64,
}

impl Block {
    fn share(&self) -> f64 {
        self.came / self.customers
    }
}

impl Isotonic {
    /// Learns the map from past scores and their outcomes. Equal scores are one block from the start.
    pub fn fit(past: &[Scored]) -> Result<Self, Error> {
        if past.len() < FEWEST {
            return Err(Error::TooFewCustomers { model: "isotonic regression", needed: FEWEST, given: past.len() });
        }
        if let Some(wrong) = past.iter().find(|it| !it.score.is_finite()) {
            return Err(Error::OutOfRange { what: "score", value: wrong.score });
        }
        let mut sorted = past.to_vec();
        sorted.sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
        let mut blocks: Vec<Block> = Vec::new();
        for tied in sorted.chunk_by(|a, b| a.score == b.score) {
            let (customers, came) = (tied.len() as f64, tied.iter().filter(|it| it.came).count() as f64);
            let mut block = Block { score: tied[0].score * customers, came, customers };
            while let Some(before) = blocks.pop_if(|it| it.share() >= block.share()) {
                block.score += before.score;
                block.came += before.came;
                block.customers += before.customers;
            }
            blocks.push(block);
        }
        Ok(Isotonic { blocks: blocks.iter().map(|it| (it.score / it.customers, it.share())).collect() })
    }

    /// The probability at `score`, on the straight line between the middles of neighbouring blocks, so that customers
    /// whose scores differ are not made equal; level beyond the first and the last.
    pub fn probability(&self, score: f64) -> f64 {
        let after = self.blocks.partition_point(|it| it.0 <= score);
        match (after.checked_sub(1).and_then(|it| self.blocks.get(it)), self.blocks.get(after)) {
            (Some(&(from, low)), Some(&(to, high))) => low + (high - low) * (score - from) / (to - from),
            (Some(&(_, only)), None) | (None, Some(&(_, only))) => only,
            (None, None) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scored(pairs: &[(f64, bool)]) -> Vec<Scored> {
        pairs.iter().map(|&(score, came)| Scored { score, came }).collect()
    }

    #[test]
    fn violators_are_pooled() {
        // Shares 0, 1, 1/2, 1 by score: the middle two are pooled to 2/3.
        let mut pairs = vec![(1.0, false); 50];
        pairs.extend([(2.0, true), (3.0, true), (3.0, false), (4.0, true)]);
        let map = Isotonic::fit(&scored(&pairs)).unwrap();
        assert_eq!(map.blocks, [(1.0, 0.0), (8.0 / 3.0, 2.0 / 3.0), (4.0, 1.0)]);
        assert_eq!(map.probability(0.0), 0.0);
        assert_eq!(map.probability(9.0), 1.0);
        assert!((map.probability(10.0 / 3.0) - 5.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn too_little_past_is_refused() {
        assert!(matches!(Isotonic::fit(&scored(&[(0.5, true)])), Err(Error::TooFewCustomers { .. })));
        assert!(Isotonic::fit(&scored(&[(f64::NAN, true); 60])).is_err());
    }

    proptest! {
        #[test]
        fn the_map_rises_and_keeps_the_number_of_outcomes(
            pairs in proptest::collection::vec((0u8..40, any::<bool>()), 50..200),
        ) {
            let past: Vec<Scored> =
                pairs.into_iter().map(|(score, came)| Scored { score: f64::from(score), came }).collect();
            let map = Isotonic::fit(&past).unwrap();
            prop_assert!(map.blocks.windows(2).all(|it| it[0].0 < it[1].0 && it[0].1 < it[1].1));
            let at = |score: u8| map.probability(f64::from(score));
            prop_assert!((0..39).all(|score| at(score) <= at(score + 1) && (0.0..=1.0).contains(&at(score))));
        }
    }
}
