//! The query engine: DataFusion with a bounded memory pool, a bounded folder to spill into, and a time limit.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures_util::Stream;
use platform::settings;
use platform::task::Stop;
use serde::{Deserialize, Serialize};

use super::{Error, Lake};

/// What a query may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of aggregates and sorts, in MB; what needs more is spilled. Not counted: the decoded rows of a few batches.
    pub memory_mb: usize,
    /// Where it spills to; without one, the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
    /// The most that is spilled, in MB.
    pub spill_mb: u64,
    /// How many threads work on a query.
    pub threads: usize,
    /// How long a query may take, in seconds, its rows included.
    pub timeout_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory_mb: 256, spill_dir: None, spill_mb: 4_096, threads: 2, timeout_s: 600 }
    }
}

impl Limits {
    /// # Errors
    /// Names the setting that is not in its range.
    pub fn validate(&self, section: &str) -> Result<(), settings::Error> {
        let check = |key: &str, fits: bool, range: &str| match fits {
            true => Ok(()),
            false => Err(settings::Error::invalid(format!("{section}.{key}"), format!("must be between {range}"))),
        };
        check("memory_mb", (16..=1_048_576).contains(&self.memory_mb), "16 and 1048576")?;
        check("spill_mb", self.spill_mb <= 1_048_576, "0 and 1048576")?;
        check("threads", (1..=256).contains(&self.threads), "1 and 256")?;
        check("timeout_s", (1..=86_400).contains(&self.timeout_s), "1 and 86400")
    }
}

/// A session whose queries read the lake's store, within the limits.
///
/// # Errors
/// If the folder to spill into cannot be used.
pub fn session(lake: &Lake, limits: &Limits) -> Result<SessionContext, Error> {
    let mode = match &limits.spill_dir {
        Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let pool = FairSpillPool::new(limits.memory_mb << 20);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, NonZeroUsize::MIN.saturating_add(4))))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
        .with_max_temp_directory_size(limits.spill_mb << 20)
        .build_arc()?;
    let config = SessionConfig::new().with_target_partitions(limits.threads);
    let session = SessionContext::new_with_config_rt(config, runtime);
    session.register_object_store(Lake::object_store_url()?.as_ref(), lake.object_store());
    Ok(session)
}

/// Passes the rows of a query on, batch by batch, until it ends, its time is up, or it is cancelled.
///
/// The limit covers the rows too: most of a query's work is done while they are read.
///
/// # Errors
/// If the query fails, takes too long or is cancelled, or `take` fails.
pub async fn drain(
    rows: SendableRecordBatchStream,
    limits: &Limits,
    cancelled: &Stop,
    mut take: impl FnMut(RecordBatch) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rows = pin!(rows);
    let mut deadline = pin!(tokio::time::sleep(Duration::from_secs(limits.timeout_s)));
    loop {
        let next = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Err(Error::Cancelled),
            () = &mut deadline => return Err(Error::Timeout { seconds: limits.timeout_s }),
            next = poll_fn(|context| rows.as_mut().poll_next(context)) => next,
        };
        match next {
            Some(batch) => take(batch?)?,
            None => return Ok(()),
        }
    }
}
