//! Brings the rollups up to date: dirty days are computed from the lake and replaced, one after another.

use std::sync::Arc;

use jiff::civil::Date;
use platform::postgres::Db;
use platform::task::Stop;

use super::prices::Prices;
use super::store::Changed;
use super::zones::Zones;
use super::{compute, store};
use crate::lake::compaction;
use crate::lake::engine::Limits;
use crate::lake::manifest::{self, DirtyDay, ManifestFile};
use crate::lake::{Error, Lake};

/// What a computation needs.
#[derive(Clone)]
pub struct Rollups {
    pub lake: Lake,
    pub db: Db,
    pub limits: Arc<Limits>,
}

/// A day that was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Computed {
    pub day: DirtyDay,
    pub files: usize,
    pub events: i64,
    /// `None` if another process computed it meanwhile.
    pub changed: Option<Changed>,
}

/// What a day is computed from, as one snapshot of Postgres shows it.
struct Inputs {
    files: Vec<ManifestFile>,
    zones: Zones,
    prices: Prices,
}

impl Rollups {
    /// The dirty days, the latest first, at most `limit`.
    ///
    /// # Errors
    /// If Postgres is unavailable.
    pub async fn dirty(&self, limit: i64) -> Result<Vec<DirtyDay>, Error> {
        let client = self.db.get().await?;
        Ok(manifest::dirty_days(&client, limit).await?)
    }

    /// Merges the small files of a UTC day; returns how many were replaced. The numbers stay the same.
    ///
    /// # Errors
    /// As [`compaction::compact`].
    pub async fn compact(&self, day: Date, min_files: usize, cancelled: &Stop) -> Result<usize, Error> {
        compaction::compact(&self.lake, &self.db, day, min_files, &self.limits, cancelled).await
    }

    /// Computes a day and replaces what it adds. Nothing is replaced if a file is missing or damaged, or a limit is
    /// reached.
    ///
    /// # Errors
    /// Says which file, which limit, or that Postgres or the store is away; the day stays dirty.
    pub async fn compute(&self, day: DirtyDay, cancelled: &Stop) -> Result<Computed, Error> {
        let Inputs { files, zones, prices } = self.inputs(day).await?;
        for file in &files {
            self.lake.read(&file.path, &file.sha256).await?;
        }
        let parts = compute::parts(&self.lake, &files, &zones, &prices, &self.limits, cancelled).await?;
        let mut client = self.db.get().await?;
        let tx = client.transaction().await?;
        let changed = store::replace(&tx, day, &parts).await?;
        if changed.is_some() {
            tx.commit().await?;
        }
        let events = files.iter().map(|it| it.events).sum();
        Ok(Computed { day, files: files.len(), events, changed })
    }

    /// The mark of the day was read before: what changes meanwhile raises it.
    async fn inputs(&self, day: DirtyDay) -> Result<Inputs, Error> {
        let mut client = self.db.get().await?;
        let level = tokio_postgres::IsolationLevel::RepeatableRead;
        let tx = client.build_transaction().isolation_level(level).read_only(true).start().await?;
        let files = manifest::files_between(&tx, day.day, day.day).await?;
        let zones = Zones::around(day.day, store::time_zones(&tx).await?);
        let prices = Prices::load(&tx).await?;
        tx.commit().await?;
        Ok(Inputs { files, zones, prices })
    }
}
