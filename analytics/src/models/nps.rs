//! The net promoter score, with how sure it is.
//!
//! NPS = 100·(P − D)/n, promoters P answered 9 or 10, detractors D 0 to 6. Its standard error is that of a difference of
//! multinomial shares, 100·√([(P+D)/n − ((P−D)/n)²]/n).

/// Answers below which no score is shown.
pub const FEWEST: u64 = 30;
/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Answers to "how likely are you to recommend us", from 0 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    pub promoters: u64,
    pub passives: u64,
    pub detractors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nps {
    /// Fewer than [`FEWEST`] answers.
    Insufficient {
        answers: u64,
    },
    Score(Score),
}

/// In points, from −100 to 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub score: f64,
    pub standard_error: f64,
    /// 95 %, held within ±100.
    pub interval: (f64, f64),
}

impl Answers {
    /// Counts answers; those above 10 are none.
    pub fn of(answers: impl IntoIterator<Item = u8>) -> Self {
        answers.into_iter().fold(Answers::default(), |mut counts, answer| {
            match answer {
                0..=6 => counts.detractors += 1,
                7..=8 => counts.passives += 1,
                9..=10 => counts.promoters += 1,
                _ => {}
            }
            counts
        })
    }

    pub fn nps(&self) -> Nps {
        let answers = self.promoters + self.passives + self.detractors;
        if answers < FEWEST {
            return Nps::Insufficient { answers };
        }
        let n = answers as f64;
        let (promoters, detractors) = (self.promoters as f64 / n, self.detractors as f64 / n);
        let score = promoters - detractors;
        let standard_error = ((promoters + detractors - score * score).max(0.0) / n).sqrt();
        let interval = if score.abs() == 1.0 {
            // All alike: the formula would claim certainty. Instead the Wilson bound of a share of one, n/(n + z²), with
            // all others on the opposite side.
            let bound = 2.0 * n / (n + Z * Z) - 1.0;
            if score > 0.0 { (bound, 1.0) } else { (-1.0, -bound) }
        } else {
            ((score - Z * standard_error).max(-1.0), (score + Z * standard_error).min(1.0))
        };
        Nps::Score(Score {
            score: 100.0 * score,
            standard_error: 100.0 * standard_error,
            interval: (100.0 * interval.0, 100.0 * interval.1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::cdnow::near;
    use super::*;

    fn score(promoters: u64, passives: u64, detractors: u64) -> Score {
        let Nps::Score(score) = (Answers { promoters, passives, detractors }).nps() else { panic!("too few") };
        score
    }

    #[test]
    fn scores_and_intervals_are_as_published() {
        let published = score(291, 476, 395);
        near(published.score, -8.950, 5e-4);
        near(published.standard_error, 2.2387, 5e-5);
        for (answers, expected, half) in
            [((291, 476, 395), -8.950, 4.388), ((50, 30, 20), 30.0, 15.308), ((70, 20, 10), 60.0, 13.001)]
        {
            let score = score(answers.0, answers.1, answers.2);
            near(score.score, expected, 5e-4);
            near(score.interval.0, expected - half, 1e-3);
            near(score.interval.1, expected + half, 1e-3);
        }
    }

    #[test]
    fn few_answers_have_no_score() {
        assert_eq!(Answers::of([10; 29]).nps(), Nps::Insufficient { answers: 29 });
        assert_eq!(Answers::of([0, 6, 7, 8, 9, 10, 11]), Answers { promoters: 2, passives: 2, detractors: 2 });
    }

    #[test]
    fn answers_that_are_all_alike_are_no_certainty() {
        let all = score(30, 0, 0);
        assert_eq!((all.score, all.interval.1), (100.0, 100.0));
        // 200·30/(30 + 1.96²) − 100.
        near(all.interval.0, 77.297, 5e-4);
        let none = score(0, 0, 30);
        assert_eq!((none.score, none.interval.0, none.interval.1), (-100.0, -100.0, -all.interval.0));
        let nearly = score(1_000, 1, 0);
        assert!(nearly.interval.0 < nearly.score && nearly.interval.1 == 100.0, "{nearly:?}");
    }
}
