//! How good a score of a yes-or-no outcome is: does it rank, and does it mean what it says.

use super::error::Error;

/// A probability that was forecast, or any score that rises with it, and whether the outcome came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    pub score: f64,
    pub came: bool,
}

/// The area under the ROC curve: the probability that an outcome that came scored above one that did not, ties one half.
///
/// By midranks (Mann and Whitney 1947; Hanley and McNeil 1982). An error if all outcomes are alike.
pub fn auc(scored: &[Scored]) -> Result<f64, Error> {
    let mut sorted = scored.to_vec();
    sorted.sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
    let (mut below, mut wins, mut came) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.score == b.score) {
        let positive = tied.iter().filter(|it| it.came).count() as f64;
        let negative = tied.len() as f64 - positive;
        wins += positive * (below + negative / 2.0);
        below += negative;
        came += positive;
    }
    let pairs = came * below;
    if pairs > 0.0 { Ok(wins / pairs) } else { Err(Error::NotFinite { what: "AUC of outcomes that are all alike" }) }
}

/// The mean squared error of forecast probabilities (Brier 1950); zero is perfect.
pub fn brier(scored: &[Scored]) -> Result<f64, Error> {
    let squares = scored.iter().map(|it| (it.score - f64::from(u8::from(it.came))).powi(2));
    mean(squares, scored.len())
}

/// Forecast and outcome of a group of similar forecasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationRow {
    pub customers: usize,
    pub mean_score: f64,
    pub share_came: f64,
}

/// Forecasts in ascending order in `rows` groups of nearly equal size, equal forecasts never apart. Empty groups are
/// left out, so that there may be fewer rows.
pub fn calibration_table(scored: &[Scored], rows: usize) -> Vec<CalibrationRow> {
    let mut sorted = scored.to_vec();
    sorted.sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
    let size = sorted.len() as f64 / rows.max(1) as f64;
    let mut groups: Vec<Vec<Scored>> = Vec::new();
    let (mut before, mut last) = (0.0, None);
    for tied in sorted.chunk_by(|a, b| a.score == b.score) {
        // Where the middle of equal forecasts falls.
        let row = ((before + tied.len() as f64 / 2.0) / size) as usize;
        before += tied.len() as f64;
        match groups.last_mut() {
            Some(group) if last == Some(row) => group.extend_from_slice(tied),
            _ => groups.push(tied.to_vec()),
        }
        last = Some(row);
    }
    groups.iter().map(|it| row(it)).collect()
}

fn row(group: &[Scored]) -> CalibrationRow {
    let customers = group.len();
    let mean_score = group.iter().map(|it| it.score).sum::<f64>() / customers as f64;
    CalibrationRow {
        customers,
        mean_score,
        share_came: group.iter().filter(|it| it.came).count() as f64 / customers as f64,
    }
}

/// Calibration in the large: outcomes forecast per outcome that came, minus one; zero is perfect.
pub fn calibration_in_the_large(scored: &[Scored]) -> Result<f64, Error> {
    let came = scored.iter().filter(|it| it.came).count() as f64;
    if came == 0.0 {
        return Err(Error::NotFinite { what: "calibration without an outcome that came" });
    }
    Ok(scored.iter().map(|it| it.score).sum::<f64>() / came - 1.0)
}

fn mean(values: impl Iterator<Item = f64>, count: usize) -> Result<f64, Error> {
    if count == 0 {
        Err(Error::NotFinite { what: "a mean of nothing" })
    } else {
        Ok(values.sum::<f64>() / count as f64)
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
    fn auc_counts_pairs_and_ties_as_one_half() {
        let all = scored(&[(0.1, false), (0.4, true), (0.4, false), (0.8, true)]);
        // 0.4 beats 0.1 and ties with 0.4; 0.8 beats both.
        assert_eq!(auc(&all).unwrap(), 3.5 / 4.0);
        assert_eq!(auc(&scored(&[(0.3, true), (0.3, false)])).unwrap(), 0.5);
        assert!(auc(&scored(&[(0.3, true)])).is_err());
    }

    #[test]
    fn brier_and_calibration_are_those_of_a_hand_count() {
        let all = scored(&[(0.0, false), (0.5, true), (1.0, true), (0.5, false)]);
        assert_eq!(brier(&all).unwrap(), 0.125);
        assert_eq!(calibration_in_the_large(&all).unwrap(), 0.0);
        assert!(brier(&[]).is_err() && calibration_in_the_large(&[]).is_err());
        let table = calibration_table(&all, 2);
        assert_eq!(table.len(), 2, "{table:?}");
        assert_eq!(table[1], CalibrationRow { customers: 3, mean_score: 2.0 / 3.0, share_came: 2.0 / 3.0 });
    }

    proptest! {
        #[test]
        fn auc_agrees_with_the_count_of_pairs(all in proptest::collection::vec((0u8..10, any::<bool>()), 2..60)) {
            let all: Vec<Scored> =
                all.into_iter().map(|(score, came)| Scored { score: f64::from(score), came }).collect();
            let (mut wins, mut pairs) = (0.0, 0.0);
            for up in all.iter().filter(|it| it.came) {
                for down in all.iter().filter(|it| !it.came) {
                    pairs += 1.0;
                    wins += if up.score > down.score { 1.0 } else if up.score == down.score { 0.5 } else { 0.0 };
                }
            }
            match auc(&all) {
                Ok(area) => prop_assert!((area - wins / pairs).abs() < 1e-12),
                Err(_) => prop_assert_eq!(pairs, 0.0),
            }
            let table = calibration_table(&all, 10);
            prop_assert_eq!(table.iter().map(|it| it.customers).sum::<usize>(), all.len());
            prop_assert!(table.len() <= 10 && table.windows(2).all(|it| it[0].mean_score < it[1].mean_score));
        }
    }
}
