//! Rows of a query as a table, CSV, JSON lines, Arrow or Parquet, written as they come.

use std::io::Write;

use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;
use serde::Deserialize;

use super::Error;
use super::file::properties;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    Csv,
    /// One JSON object on each line.
    Json,
    /// Arrow's streaming format.
    Arrow,
    Parquet,
}

/// Writes rows in a format.
pub struct Writer<W: Write + Send> {
    form: Form<W>,
    rows: usize,
    left_out: usize,
    limit: usize,
}

enum Form<W: Write + Send> {
    Table { out: W, batches: Vec<RecordBatch>, schema: SchemaRef },
    Csv(Box<csv::Writer<W>>),
    Json(LineDelimitedWriter<W>),
    Arrow(StreamWriter<W>),
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> Writer<W> {
    /// A table is laid out as a whole and should have a limit; the other formats hold one batch at a time.
    ///
    /// # Errors
    /// If the format cannot hold these columns.
    pub fn new(format: Format, schema: SchemaRef, out: W, limit: Option<usize>) -> Result<Self, Error> {
        let form = match format {
            Format::Table => Form::Table { out, batches: Vec::new(), schema },
            Format::Csv => Form::Csv(Box::new(csv::WriterBuilder::new().with_header(true).build(out))),
            Format::Json => Form::Json(LineDelimitedWriter::new(out)),
            Format::Arrow => Form::Arrow(StreamWriter::try_new(out, &schema)?),
            Format::Parquet => Form::Parquet(Box::new(ArrowWriter::try_new(out, schema, Some(properties()))?)),
        };
        Ok(Writer { form, rows: 0, left_out: 0, limit: limit.unwrap_or(usize::MAX) })
    }

    /// # Errors
    /// If the rows cannot be written, for example because the disk is full.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let kept = batch.num_rows().min(self.limit - self.rows);
        self.left_out += batch.num_rows() - kept;
        self.rows += kept;
        if kept == 0 {
            return Ok(()); // A slice of nothing would keep the whole batch in memory.
        }
        let batch = batch.slice(0, kept);
        match &mut self.form {
            Form::Table { batches, .. } => batches.push(batch),
            Form::Csv(out) => out.write(&batch)?,
            Form::Json(out) => out.write(&batch)?,
            Form::Arrow(out) => out.write(&batch)?,
            Form::Parquet(out) => out.write(&batch)?,
        }
        Ok(())
    }

    /// Rows written so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Ends the file; returns how many rows were written and how many the limit left out.
    ///
    /// # Errors
    /// If the rest cannot be written.
    pub fn finish(self) -> Result<(usize, usize), Error> {
        let mut out = match self.form {
            Form::Table { mut out, mut batches, schema } => {
                if batches.is_empty() {
                    batches.push(RecordBatch::new_empty(schema));
                }
                writeln!(out, "{}", pretty_format_batches(&batches)?).map_err(io)?;
                out
            }
            Form::Csv(out) => out.into_inner(),
            Form::Json(mut out) => {
                out.finish()?;
                out.into_inner()
            }
            Form::Arrow(mut out) => {
                out.finish()?;
                out.into_inner()?
            }
            Form::Parquet(out) => out.into_inner()?,
        };
        out.flush().map_err(io)?;
        Ok((self.rows, self.left_out))
    }
}

fn io(problem: std::io::Error) -> Error {
    datafusion::error::DataFusionError::from(problem).into()
}
