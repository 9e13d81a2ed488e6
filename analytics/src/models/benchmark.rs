//! How a company compares with others, without showing any of them.
//!
//! Bands are shown only of at least ten other companies of which none has more than half of the sum, and rounded to two
//! digits: fewer would let a member be guessed, a dominant one would show through.

use domain::CompanyId;

use super::quantile::Sorted;

/// The fewest other companies that bands are shown of.
pub const FEWEST: usize = 10;
/// The largest share of the sum that one company may have.
pub const LARGEST_SHARE: f64 = 0.5;

/// One company's value of what is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompanyValue {
    pub company: CompanyId,
    pub value: f64,
}

/// The distribution of the other companies: the asking one is left out of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bands {
    pub companies: usize,
    pub p10: f64,
    pub p25: f64,
    pub p50: f64,
    pub p75: f64,
    pub p90: f64,
}

/// Where a value is among the bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    BelowP10,
    P10ToP25,
    P25ToP50,
    P50ToP75,
    P75ToP90,
    AboveP90,
}

/// Why there are no bands. Says nothing about any one company.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{companies} other companies are fewer than {FEWEST}")]
    TooFewCompanies { companies: usize },
    #[error("one company has more than half of the sum")]
    OneDominates,
    /// Shares of a sum mean nothing where values are negative or no numbers.
    #[error("a value is negative or no number")]
    NotComparable,
    #[error("a company is in the comparison twice")]
    CompanyTwice,
}

impl Bands {
    /// The bands of all companies but `asking`.
    pub fn without(asking: CompanyId, values: &[CompanyValue]) -> Result<Self, Refusal> {
        let mut others: Vec<&CompanyValue> = values.iter().filter(|it| it.company != asking).collect();
        if others.len() < FEWEST {
            return Err(Refusal::TooFewCompanies { companies: others.len() });
        }
        others.sort_unstable_by_key(|it| it.company);
        if others.windows(2).any(|it| it[0].company == it[1].company) {
            return Err(Refusal::CompanyTwice);
        }
        if others.iter().any(|it| !it.value.is_finite() || it.value < 0.0) {
            return Err(Refusal::NotComparable);
        }
        let sum: f64 = others.iter().map(|it| it.value).sum();
        if others.iter().any(|it| it.value > LARGEST_SHARE * sum) {
            return Err(Refusal::OneDominates);
        }
        let sorted = Sorted::new(others.iter().map(|it| it.value));
        let at = |share| two_digits(sorted.quantile(share));
        Ok(Bands { companies: others.len(), p10: at(0.1), p25: at(0.25), p50: at(0.5), p75: at(0.75), p90: at(0.9) })
    }

    /// Where `value` is among the rounded bands; on a bound it is in the upper band.
    pub fn position(&self, value: f64) -> Position {
        let bounds = [
            (self.p90, Position::AboveP90),
            (self.p75, Position::P75ToP90),
            (self.p50, Position::P50ToP75),
            (self.p25, Position::P25ToP50),
            (self.p10, Position::P10ToP25),
        ];
        bounds.into_iter().find(|it| value >= it.0).map_or(Position::BelowP10, |it| it.1)
    }
}

fn two_digits(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let exponent = 1 - value.abs().log10().floor() as i32;
    // Dividing by a whole power of ten rounds once; multiplying by its inverse would round twice.
    if exponent >= 0 {
        let scale = 10.0_f64.powi(exponent);
        (value * scale).round() / scale
    } else {
        let scale = 10.0_f64.powi(-exponent);
        (value / scale).round() * scale
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASKING: CompanyId = CompanyId(1);

    fn values(values: &[f64]) -> Vec<CompanyValue> {
        let value = |(index, &value): (usize, &f64)| CompanyValue { company: CompanyId(index as i64 + 1), value };
        values.iter().enumerate().map(value).collect()
    }

    #[test]
    fn bands_leave_out_the_company_that_asks() {
        let all: Vec<f64> = std::iter::once(9e9).chain((0..=10).map(|it| f64::from(it) * 1_234.5)).collect();
        let bands = Bands::without(ASKING, &values(&all)).unwrap();
        assert_eq!(bands.companies, 11);
        assert_eq!(
            (bands.p10, bands.p25, bands.p50, bands.p75, bands.p90),
            (1_200.0, 3_100.0, 6_200.0, 9_300.0, 11_000.0)
        );
        assert_eq!(bands.position(9e9), Position::AboveP90);
        assert_eq!(bands.position(6_200.0), Position::P50ToP75);
        assert_eq!(bands.position(0.0), Position::BelowP10);
    }

    #[test]
    fn what_would_show_a_company_is_refused() {
        let refusal = |all: &[CompanyValue]| Bands::without(ASKING, all).unwrap_err();
        assert_eq!(refusal(&values(&[1.0; 10])), Refusal::TooFewCompanies { companies: 9 });
        let mut one = [1.0; 12];
        one[5] = 10.1;
        assert_eq!(refusal(&values(&one)), Refusal::OneDominates);
        one[5] = 10.0;
        assert!(Bands::without(ASKING, &values(&one)).is_ok(), "exactly half is not above half");
        one[5] = -1.0;
        assert_eq!(refusal(&values(&one)), Refusal::NotComparable);
        one[5] = f64::NAN;
        assert_eq!(refusal(&values(&one)), Refusal::NotComparable);
        let mut twice = values(&[1.0; 12]);
        twice[7].company = twice[8].company;
        assert_eq!(refusal(&twice), Refusal::CompanyTwice);
        assert_eq!(refusal(&values(&[])).to_string(), "0 other companies are fewer than 10");
    }

    #[test]
    fn bounds_have_two_digits() {
        for (value, expected) in
            [(0.0, 0.0), (1_234.5, 1_200.0), (0.012_345, 0.012), (9.96, 10.0), (99_600.0, 100_000.0)]
        {
            assert_eq!(two_digits(value), expected);
        }
    }

    proptest! {
        #[test]
        fn bands_rise(all in proptest::collection::vec(0.0..1e6, 12..40)) {
            if let Ok(bands) = Bands::without(ASKING, &values(&all)) {
                let bounds = [bands.p10, bands.p25, bands.p50, bands.p75, bands.p90];
                prop_assert!(bounds.windows(2).all(|it| it[0] <= it[1]));
            }
        }
    }
}
