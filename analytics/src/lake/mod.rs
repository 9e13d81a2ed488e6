//! The event lake: what is counted of every event, as Parquet files in an object store.
//!
//! Ids, kinds, instants, durations and sizes; never a text, a name, a number or an address ([`counted`]). Each file holds
//! events of one UTC day, sorted by company and time. Postgres has the manifest ([`manifest`]): a file that is not in it
//! does not exist for readers, so that a crash between writing a file and committing it leaves an orphan and no
//! duplicate.
//!
//! In reading order: [`archive`] (the processor), [`counted`], [`schema`], [`file`], [`store`], [`manifest`], [`table`]
//! (the files as a table of DataFusion), [`engine`] (memory, spilling, time limits), [`query`], [`export`],
//! [`compaction`] and [`verify`].

pub mod archive;
pub mod compaction;
mod counted;
pub mod engine;
pub mod export;
pub mod file;
pub mod manifest;
pub mod query;
pub mod schema;
pub mod store;
pub mod table;
#[cfg(test)]
mod tests;
pub mod verify;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

pub use counted::Counted;
pub use store::Lake;

/// The lake could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be made.
    #[error("the lake's folder cannot be made: {0}")]
    Folder(String),
    /// The object store is away, full, or refuses.
    #[error("object store failed")]
    Store(#[from] object_store::Error),
    /// A file that the manifest names is not in the store.
    #[error("file {path} of the lake is missing")]
    Missing { path: String },
    /// A file's bytes are not those that were written.
    #[error("file {path} of the lake is damaged: {problem}")]
    Damaged { path: String, problem: String },
    /// The query engine failed, or a limit was reached.
    #[error("query failed: {0}")]
    Engine(String),
    #[error("query was stopped after {seconds} s, its limit")]
    Timeout { seconds: u64 },
    #[error("query was cancelled")]
    Cancelled,
    #[error(transparent)]
    Postgres(#[from] platform::postgres::Failure),
}

impl From<DataFusionError> for Error {
    /// The engine's errors repeat one another along their chain: the one that began it says it all.
    fn from(problem: DataFusionError) -> Self {
        Error::Engine(problem.find_root().strip_backtrace())
    }
}

impl From<ArrowError> for Error {
    fn from(problem: ArrowError) -> Self {
        DataFusionError::from(problem).into()
    }
}

impl From<ParquetError> for Error {
    fn from(problem: ParquetError) -> Self {
        DataFusionError::from(problem).into()
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(problem: tokio_postgres::Error) -> Self {
        Error::Postgres(problem.into())
    }
}
