//! Segments of the 25 cells of recency by frequency. A map of them is a partition: each cell has exactly one segment.
//!
//! Published maps overlap and leave holes (those of the R package rfm leave up to 36 of 125 cells without a segment). The
//! standard map is checked when it is compiled, a company's own when it is read.

/// The segments of the standard map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    Champions,
    Loyal,
    PotentialLoyalists,
    New,
    Promising,
    NeedAttention,
    AboutToSleep,
    AtRisk,
    CantLose,
    Hibernating,
}

impl Segment {
    /// The name in columns and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Segment::Champions => "champions",
            Segment::Loyal => "loyal",
            Segment::PotentialLoyalists => "potential_loyalists",
            Segment::New => "new",
            Segment::Promising => "promising",
            Segment::NeedAttention => "need_attention",
            Segment::AboutToSleep => "about_to_sleep",
            Segment::AtRisk => "at_risk",
            Segment::CantLose => "cant_lose",
            Segment::Hibernating => "hibernating",
        }
    }
}

/// A rectangle of cells: scores from the first to the second, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule<S> {
    pub recency: (u8, u8),
    pub frequency: (u8, u8),
    pub segment: S,
}

/// A segment for each cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentMap<S> {
    /// By recency score, then by frequency score, both from 1.
    cells: [[S; 5]; 5],
}

/// Why rules are no map. Scores are those of the first cell found, by recency, then by frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("recency {recency} with frequency {frequency} has no segment")]
    Uncovered { recency: u8, frequency: u8 },
    #[error("recency {recency} with frequency {frequency} is in rules {first} and {second}, counted from 0")]
    CoveredTwice { recency: u8, frequency: u8, first: usize, second: usize },
    #[error("rule {rule}, counted from 0, is not within scores 1 to 5")]
    OutOfGrid { rule: usize },
}

const fn rule(recency: (u8, u8), frequency: (u8, u8), segment: Segment) -> Rule<Segment> {
    Rule { recency, frequency, segment }
}

const STANDARD_RULES: [Rule<Segment>; 10] = [
    rule((1, 2), (1, 2), Segment::Hibernating),
    rule((1, 2), (3, 4), Segment::AtRisk),
    rule((1, 2), (5, 5), Segment::CantLose),
    rule((3, 3), (1, 2), Segment::AboutToSleep),
    rule((3, 3), (3, 3), Segment::NeedAttention),
    rule((3, 4), (4, 5), Segment::Loyal),
    rule((4, 4), (1, 1), Segment::Promising),
    rule((5, 5), (1, 1), Segment::New),
    rule((4, 5), (2, 3), Segment::PotentialLoyalists),
    rule((5, 5), (4, 5), Segment::Champions),
];

/// The standard map. Rules that are no partition do not compile.
pub static STANDARD: SegmentMap<Segment> = {
    match owners(&STANDARD_RULES) {
        Ok(owners) => {
            let mut cells = [[Segment::Hibernating; 5]; 5];
            let mut cell = 0;
            while cell < 25 {
                cells[cell / 5][cell % 5] = STANDARD_RULES[owners[cell / 5][cell % 5]].segment;
                cell += 1;
            }
            SegmentMap { cells }
        }
        Err(_) => panic!("the standard segments are no partition of the 25 cells"),
    }
};

impl<S: Clone> SegmentMap<S> {
    /// A company's own map, or the cell or rule that keeps it from being one.
    pub fn new(rules: &[Rule<S>]) -> Result<Self, MapError> {
        let owners = owners(rules)?;
        Ok(SegmentMap { cells: owners.map(|row| row.map(|rule| rules[rule].segment.clone())) })
    }

    /// The segment of two scores, which are held between 1 and 5.
    pub fn at(&self, recency: u8, frequency: u8) -> S {
        let index = |score: u8| usize::from(score.clamp(1, 5) - 1);
        self.cells[index(recency)][index(frequency)].clone()
    }
}

/// The rule that covers each cell. A `const fn`, hence the loops.
const fn owners<S>(rules: &[Rule<S>]) -> Result<[[usize; 5]; 5], MapError> {
    let mut owners = [[usize::MAX; 5]; 5];
    let mut rule = 0;
    while rule < rules.len() {
        if !is_in_grid(rules[rule].recency) || !is_in_grid(rules[rule].frequency) {
            return Err(MapError::OutOfGrid { rule });
        }
        rule += 1;
    }
    let mut cell = 0;
    while cell < 25 {
        let (row, column) = (cell / 5, cell % 5);
        let (recency, frequency) = (row as u8 + 1, column as u8 + 1);
        let mut rule = 0;
        while rule < rules.len() {
            if holds(rules[rule].recency, recency) && holds(rules[rule].frequency, frequency) {
                let first = owners[row][column];
                if first != usize::MAX {
                    return Err(MapError::CoveredTwice { recency, frequency, first, second: rule });
                }
                owners[row][column] = rule;
            }
            rule += 1;
        }
        if owners[row][column] == usize::MAX {
            return Err(MapError::Uncovered { recency, frequency });
        }
        cell += 1;
    }
    Ok(owners)
}

const fn is_in_grid((from, to): (u8, u8)) -> bool {
    1 <= from && from <= to && to <= 5
}

const fn holds((from, to): (u8, u8), score: u8) -> bool {
    from <= score && score <= to
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(recency: (u8, u8), frequency: (u8, u8), name: &str) -> Rule<String> {
        Rule { recency, frequency, segment: name.to_owned() }
    }

    #[test]
    fn the_standard_map_is_that_of_its_rules() {
        let at = |recency, frequency| STANDARD.at(recency, frequency).as_str();
        assert_eq!(
            (at(1, 1), at(5, 5), at(2, 5), at(3, 3)),
            ("hibernating", "champions", "cant_lose", "need_attention")
        );
        assert_eq!((at(5, 1), at(4, 1), at(4, 5), at(5, 3)), ("new", "promising", "loyal", "potential_loyalists"));
        assert_eq!((at(1, 4), at(3, 1)), ("at_risk", "about_to_sleep"));
        assert_eq!(at(0, 9), "cant_lose", "scores are held in range");
    }

    #[test]
    fn an_own_map_is_read() {
        let map = SegmentMap::new(&[own((1, 3), (1, 5), "cold"), own((4, 5), (1, 5), "warm")]).unwrap();
        assert_eq!((map.at(3, 5), map.at(4, 1)), ("cold".to_owned(), "warm".to_owned()));
    }

    #[test]
    fn what_keeps_rules_from_being_a_map_is_named() {
        let error = |rules: &[Rule<String>]| SegmentMap::new(rules).unwrap_err().to_string();
        let hole = [own((1, 3), (1, 5), "cold"), own((4, 5), (1, 4), "warm")];
        assert_eq!(error(&hole), "recency 4 with frequency 5 has no segment");
        let twice = [own((1, 3), (1, 5), "cold"), own((3, 5), (1, 5), "warm")];
        assert_eq!(error(&twice), "recency 3 with frequency 1 is in rules 0 and 1, counted from 0");
        let outside = [own((1, 5), (1, 5), "all"), own((5, 6), (1, 1), "none")];
        assert_eq!(error(&outside), "rule 1, counted from 0, is not within scores 1 to 5");
        assert_eq!(error(&[own((3, 1), (1, 5), "backwards")]), "rule 0, counted from 0, is not within scores 1 to 5");
        assert_eq!(error(&[]), "recency 1 with frequency 1 has no segment");
    }
}
