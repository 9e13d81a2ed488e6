//! What the facts of a company say about its customers.
//!
//! - [`models`] — pure functions from histories to forecasts, scores and rates, each with the paper it comes from.

pub mod models;
