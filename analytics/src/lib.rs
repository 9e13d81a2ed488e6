//! The event lake, the rollups that are computed from it, and the models and reports that read them.
//!
//! - [`lake`] — what is counted of every event, as Parquet in an object store, with its manifest in Postgres.
//! - [`rollups`] — the numbers of a company's days, computed by DataFusion from the lake, stored in Postgres.
//! - [`reports`] — a company's report as CSV or XLSX.
//! - [`models`] — pure functions from histories to forecasts, scores and rates, each with the paper it comes from.
//!
//! Data flows from topics to files to rollups; nothing flows back.

pub mod lake;
pub mod models;
pub mod reports;
pub mod rollups;
#[cfg(test)]
mod tests;

pub use lake::archive;
pub use rollups::{Comparison, Rollups, against_ledger, against_parts, part, series};
