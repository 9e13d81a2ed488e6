//! How much of a limit was reached, and which crossings are told.
//!
//! Decided on what was used, in 128 bits, so that no product overflows; a limit that is met exactly is crossed.

/// A part of a limit that is announced when usage reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Threshold {
    Eighty,
    Hundred,
}

impl Threshold {
    /// Every threshold, lowest first.
    pub(crate) const ALL: [Threshold; 2] = [Threshold::Eighty, Threshold::Hundred];

    /// In per cent of the limit: what `feature_usage.fired_threshold` holds.
    pub(crate) fn percent(self) -> i16 {
        match self {
            Threshold::Eighty => 80,
            Threshold::Hundred => 100,
        }
    }

    fn is_reached(self, limit_units: i64, used_units: i64) -> bool {
        i128::from(used_units) * 100 >= i128::from(self.percent()) * i128::from(limit_units)
    }
}

/// The thresholds that a move from `before_units` to `after_units` crosses, lowest first.
///
/// None without a limit, at a limit of nothing, and downwards.
pub(crate) fn crossed(limit_units: Option<i64>, before_units: i64, after_units: i64) -> Vec<Threshold> {
    let Some(limit) = limit_units.filter(|limit| *limit > 0) else { return Vec::new() };
    let crosses = |it: &Threshold| !it.is_reached(limit, before_units) && it.is_reached(limit, after_units);
    Threshold::ALL.into_iter().filter(crosses).collect()
}

/// Of the [`crossed`], those above the highest that was announced since the limit and the period last changed:
/// a correction may lead down and up again over the same threshold.
pub(crate) fn to_announce(
    limit_units: Option<i64>,
    before_units: i64,
    after_units: i64,
    announced: Option<Threshold>,
) -> Vec<Threshold> {
    let mut crossed = crossed(limit_units, before_units, after_units);
    crossed.retain(|it| Some(*it) > announced);
    crossed
}

/// The highest threshold at or above which usage stands: what counts as announced after a limit was lowered.
pub(crate) fn already_reached(limit_units: Option<i64>, used_units: i64) -> Option<Threshold> {
    let limit = limit_units.filter(|limit| *limit > 0)?;
    Threshold::ALL.into_iter().rfind(|it| it.is_reached(limit, used_units))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Threshold::{Eighty, Hundred};
    use super::*;

    #[test]
    fn the_exact_boundary_is_crossed() {
        assert_eq!(crossed(Some(100), 79, 80), [Eighty]);
        assert_eq!(crossed(Some(100), 99, 100), [Hundred]);
        assert_eq!(crossed(Some(100), 0, 100), [Eighty, Hundred]);
        assert_eq!(crossed(Some(100), 80, 99), []);
        assert_eq!(crossed(Some(100), 100, 300), []);
    }

    #[test]
    fn a_limit_that_five_does_not_divide_is_crossed_at_the_next_unit() {
        assert_eq!(crossed(Some(3), 2, 3), [Eighty, Hundred]);
        assert_eq!(crossed(Some(7), 5, 6), [Eighty]);
        assert_eq!(crossed(Some(1), 0, 1), [Eighty, Hundred]);
    }

    #[test]
    fn no_limit_and_a_limit_of_nothing_are_never_crossed() {
        assert_eq!(crossed(None, 0, i64::MAX), []);
        assert_eq!(crossed(Some(0), 0, 10), []);
        assert_eq!(already_reached(Some(0), 10), None);
    }

    #[test]
    fn the_largest_amounts_do_not_overflow() {
        assert_eq!(crossed(Some(i64::MAX), 0, i64::MAX), [Eighty, Hundred]);
        assert_eq!(crossed(Some(i64::MAX), i64::MAX - 1, i64::MAX), [Hundred]);
    }

    #[test]
    fn a_correction_does_not_announce_twice() {
        assert_eq!(to_announce(Some(100), 79, 85, None), [Eighty]);
        assert_eq!(to_announce(Some(100), 85, 40, Some(Eighty)), []);
        assert_eq!(to_announce(Some(100), 40, 100, Some(Eighty)), [Hundred]);
    }

    proptest! {
        #[test]
        fn each_is_announced_once_on_any_way_up(
            limit in 1_i64..1_000, steps in prop::collection::vec(0_i64..100, 1..60),
        ) {
            let (mut used, mut told) = (0, Vec::new());
            for step in steps {
                told.extend(crossed(Some(limit), used, used + step));
                used += step;
            }
            let reached: Vec<_> = Threshold::ALL.into_iter().filter(|it| it.is_reached(limit, used)).collect();
            prop_assert_eq!(told, reached);
        }

        #[test]
        fn each_is_announced_once_whatever_is_corrected(
            limit in 1_i64..1_000, steps in prop::collection::vec(-100_i64..200, 1..60),
        ) {
            let (mut used, mut highest, mut told) = (0_i64, 0_i64, Vec::new());
            for step in steps {
                let after = (used + step).max(0);
                told.extend(to_announce(Some(limit), used, after, told.last().copied()));
                (used, highest) = (after, highest.max(after));
            }
            let reached: Vec<_> = Threshold::ALL.into_iter().filter(|it| it.is_reached(limit, highest)).collect();
            prop_assert_eq!(&told, &reached);
            prop_assert_eq!(told.last().copied(), already_reached(Some(limit), highest));
        }
    }
}
