//! A company's report over a span of days, as CSV or XLSX.
//!
//! [`content`] reads the rollups into tables; [`csv`] and [`xlsx`] write them. Both are written from the same tables, so that they
//! have the same numbers as the API. Nothing is left out: a report says how many rows it has and what they add up to.

pub mod content;
pub mod csv;
pub mod table;
#[cfg(test)]
mod tests;
pub mod xlsx;

use jiff::civil::Date;

pub use content::Report;

/// The most days of a report.
pub const MAX_DAYS: i32 = 1_100;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The days, a line each.
    Csv,
    /// A workbook: summary with charts, days, outcomes, models.
    Xlsx,
}

impl Format {
    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "csv" => Some(Format::Csv),
            "xlsx" => Some(Format::Xlsx),
            _ => None,
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Xlsx => "xlsx",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8",
            Format::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        }
    }
}

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no such company")]
    UnknownCompany,
    #[error("the span of a report must be 1 to {MAX_DAYS} days, and {from} to {to} is not")]
    Span { from: Date, to: Date },
    #[error("the workbook cannot be written")]
    Workbook(#[from] rust_xlsxwriter::XlsxError),
    #[error("the lines cannot be written")]
    Lines(#[from] ::csv::Error),
    #[error("the report cannot be written")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Postgres(#[from] platform::postgres::Failure),
}

impl From<tokio_postgres::Error> for Error {
    fn from(problem: tokio_postgres::Error) -> Self {
        Error::Postgres(problem.into())
    }
}

impl Report {
    /// Writes the report as a whole; the bytes are a file.
    ///
    /// # Errors
    /// If the format cannot hold it.
    pub fn write(&self, format: Format) -> Result<Vec<u8>, Error> {
        match format {
            Format::Csv => csv::write(&self.days, Vec::new()),
            Format::Xlsx => xlsx::write(self),
        }
    }

    /// A name for the file: domain and span.
    pub fn file_name(&self, format: Format) -> String {
        format!("{}_{}_{}.{}", self.domain, self.from, self.to, format.extension())
    }
}
