//! Files of the lake as a table of DataFusion.
//!
//! The files are those of the manifest when the table was made, so that a query, and all queries of a session, see one
//! state. No folder is listed: DataFusion's own listing keeps what it once found.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Date32Array, TimestampMicrosecondArray, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::manifest::ManifestFile;
use super::{Error, Lake, schema};

/// A fixed set of files.
#[derive(Debug)]
pub struct Files {
    files: Vec<ManifestFile>,
}

impl Files {
    pub fn new(files: Vec<ManifestFile>) -> Self {
        Files { files }
    }

    /// Those whose days the predicate does not exclude.
    fn pruned(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<&ManifestFile>> {
        let Some(predicate) = conjunction(filters.to_vec()) else { return Ok(self.files.iter().collect()) };
        let columns = DFSchema::try_from(schema::SCHEMA.as_ref().clone())?;
        let predicate = state.create_physical_expr(predicate, &columns)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(schema::SCHEMA.clone()).build(predicate);
        let Some(predicate) = predicate else { return Ok(self.files.iter().collect()) };
        let keep = predicate.prune(&Days(&self.files))?;
        Ok(self.files.iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
    }
}

/// The files in as many groups as there are threads, the bytes spread evenly.
fn groups(mut files: Vec<&ManifestFile>, threads: usize) -> Vec<FileGroup> {
    files.sort_unstable_by_key(|it| (std::cmp::Reverse(it.bytes), it.id));
    let mut groups: Vec<(i64, Vec<PartitionedFile>)> = vec![(0, Vec::new()); threads.clamp(1, files.len().max(1))];
    for file in files {
        if let Some(smallest) = groups.iter_mut().min_by_key(|it| it.0) {
            smallest.0 += file.bytes;
            smallest.1.push(PartitionedFile::new(file.path.clone(), file.bytes.unsigned_abs()));
        }
    }
    groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

#[async_trait::async_trait]
impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        schema::SCHEMA.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.pruned(state, filters)?;
        if files.is_empty() {
            let columns = match projection {
                Some(columns) => Arc::new(schema::SCHEMA.project(columns)?),
                None => schema::SCHEMA.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(columns)));
        }
        let mut source = ParquetSource::new(schema::SCHEMA.clone());
        if let Some(predicate) = conjunction(filters.to_vec()) {
            let columns = DFSchema::try_from(schema::SCHEMA.as_ref().clone())?;
            source = source.with_predicate(state.create_physical_expr(predicate, &columns)?);
        }
        let url = Lake::object_store_url().map_err(external)?;
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_file_groups(groups(files, state.config().target_partitions()))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// Files and row groups are left out by them, not every row.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

fn external(problem: Error) -> datafusion::error::DataFusionError {
    datafusion::error::DataFusionError::External(Box::new(problem))
}

/// What the manifest says of the files' columns: each file holds one day.
struct Days<'a>(&'a [ManifestFile]);

impl Days<'_> {
    /// `day`, and `occurred_at` from the first to the last microsecond of the day.
    fn bound(&self, column: &Column, last_of_day: i64) -> Option<ArrayRef> {
        let days = self.0.iter().map(|it| schema::day_number(it.day));
        match column.name.as_str() {
            "day" => Some(Arc::new(Date32Array::from_iter_values(days))),
            "occurred_at" => {
                let micros = days.map(|day| i64::from(day) * schema::DAY_MICROS + last_of_day);
                Some(Arc::new(TimestampMicrosecondArray::from_iter_values(micros)))
            }
            _ => None,
        }
    }
}

impl PruningStatistics for Days<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, 0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, schema::DAY_MICROS - 1)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let none = || Arc::new(UInt64Array::from(vec![0; self.0.len()])) as ArrayRef;
        matches!(column.name.as_str(), "day" | "occurred_at").then(none)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.0.iter().map(|it| it.events.unsigned_abs());
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
