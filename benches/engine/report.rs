//! Rounds to medians, and medians to the one line that scripts read.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Figures by name, one per round.
#[derive(Debug, Default)]
pub(crate) struct Report(BTreeMap<&'static str, Vec<f64>>);

impl Report {
    /// Keeps a figure of a round.
    pub(crate) fn add(&mut self, name: &'static str, figure: f64) {
        self.0.entry(name).or_default().push(figure);
    }

    /// The medians, by name.
    pub(crate) fn medians(&self) -> Map<String, Value> {
        self.0.iter().map(|(name, rounds)| ((*name).to_owned(), json!(rounded(median(rounds))))).collect()
    }
}

/// The middle one; of two middle ones the upper.
fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three decimal places below a hundred, none above.
fn rounded(figure: f64) -> f64 {
    let parts = if figure.abs() < 100.0 { 1_000.0 } else { 1.0 };
    (figure * parts).round() / parts
}
