//! The numbers of a company's days, weeks and months, from the rollups.
//!
//! - [`summary`] — `GET /api/analytics/summary`: now.
//! - [`history`] — `GET /api/analytics/history`: seven days, or eight weeks.
//! - [`export`] — `GET /api/analytics/export`: a report as a file.
//! - [`numbers`] — one span of days, as the first two show it.

pub(crate) mod export;
pub(crate) mod history;
mod numbers;
pub(crate) mod summary;
