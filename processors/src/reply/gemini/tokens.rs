//! What one call used, as the provider counts it.

use serde_json::Value;

/// More tokens than one call can use; a larger count is ignored.
const MAX_TOKENS: i64 = 1_000_000_000;

/// Tokens of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Tokens read, cached ones included.
    pub(crate) input: i64,
    /// Tokens written, thoughts included: both are billed.
    pub(crate) output: i64,
    /// Those of the input that the provider had cached.
    pub(crate) cached: i64,
}

impl Tokens {
    /// The tokens used, from those counts that are there.
    pub(super) fn used(usage: &Value) -> Option<Self> {
        let count = |key: &str| {
            let value = &usage[key];
            // ProtoJSON writes 64-bit integers as strings.
            value.as_i64().or_else(|| value.as_str()?.parse().ok()).filter(|count| (0..=MAX_TOKENS).contains(count))
        };
        let (input, total) = (count("promptTokenCount"), count("totalTokenCount"));
        let output = match (count("candidatesTokenCount"), count("thoughtsTokenCount")) {
            (None, None) => total.map(|total| total.saturating_sub(input.unwrap_or(0)).max(0)),
            (written, thought) => Some(written.unwrap_or(0).saturating_add(thought.unwrap_or(0))),
        };
        if input.is_none() && output.is_none() {
            return None;
        }
        let output = output.unwrap_or(0);
        let input = input.or_else(|| total.map(|total| total.saturating_sub(output).max(0))).unwrap_or(0);
        Some(Tokens { input, output, cached: count("cachedContentTokenCount").unwrap_or(0).min(input) })
    }
}
