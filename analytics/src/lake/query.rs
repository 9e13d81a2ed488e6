//! SQL over the lake for the operator's analysts: read-only, within the limits.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use jiff::civil::Date;

use super::engine::{self, Limits};
use super::manifest::ManifestFile;
use super::table::Files;
use super::{Error, Lake};

/// The events, each once.
pub const EVENTS: &str = "events";
/// What was archived: an event that a producer sent twice may be in two files.
pub const RECORDS: &str = "records";

/// Within a UTC day each event once, the one that occurred and was received first.
const ONCE: &str = "\
select * except (nth)
from (
  select *, row_number() over (partition by day, event_id order by occurred_at, received_at, company_id) as nth
  from records
)
where nth = 1";

/// A session in which the given files are the tables `records` and `events`. Where no day has two files, they are the same:
/// within a file each event is there once.
///
/// # Errors
/// If the engine cannot be set up.
pub async fn session(lake: &Lake, files: Vec<ManifestFile>, limits: &Limits) -> Result<SessionContext, Error> {
    let session = engine::session(lake, limits)?;
    let days: HashSet<Date> = files.iter().map(|it| it.day).collect();
    let is_once = days.len() == files.len();
    let files = Arc::new(Files::new(files));
    session.register_table(RECORDS, Arc::clone(&files) as Arc<dyn TableProvider>)?;
    match is_once {
        true => session.register_table(EVENTS, files)?,
        false => session.register_table(EVENTS, session.sql(ONCE).await?.into_view())?,
    };
    Ok(session)
}

/// Runs one `select`; the rows are read from the stream.
///
/// # Errors
/// If the statement is not a query, names what there is not, or cannot be planned.
pub async fn select(session: &SessionContext, sql: &str) -> Result<SendableRecordBatchStream, Error> {
    let reads_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    Ok(session.sql_with_options(sql, reads_only).await?.execute_stream().await?)
}
