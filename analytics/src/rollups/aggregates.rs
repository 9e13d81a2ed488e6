//! The sketches as aggregate functions of DataFusion: `durations(duration_ms)` and `contacts(contact_id)`, both to bytes.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::{as_binary_array, as_fixed_size_binary_array, as_int64_array};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, AggregateUDF, Volatility, create_udaf};

use domain::sketch::{Distinct, Durations};

/// Counts milliseconds in buckets.
pub(super) fn durations() -> AggregateUDF {
    aggregate::<Durations>("durations", DataType::Int64)
}

/// Keeps the smallest hashes of ids.
pub(super) fn contacts() -> AggregateUDF {
    aggregate::<Distinct>("contacts", DataType::FixedSizeBinary(16))
}

/// A sketch that is built from a column.
pub(super) trait Sketch: Default + std::fmt::Debug + Send + Sync + 'static {
    fn add_all(&mut self, values: &ArrayRef) -> Result<()>;
    fn merge_with(&mut self, other: &Self);
    /// What the aggregate function returns.
    fn bytes(&self) -> Vec<u8>;
    /// The sketch of what the aggregate function returned.
    fn of_bytes(bytes: &[u8]) -> Self;
    fn size(&self) -> usize;
}

impl Sketch for Durations {
    fn add_all(&mut self, values: &ArrayRef) -> Result<()> {
        as_int64_array(values)?.iter().flatten().for_each(|ms| self.add(ms));
        Ok(())
    }

    fn merge_with(&mut self, other: &Self) {
        self.merge(other);
    }

    fn bytes(&self) -> Vec<u8> {
        let (buckets, counts) = self.columns();
        let pairs = buckets.into_iter().zip(counts);
        pairs.flat_map(|(bucket, count)| bucket.to_le_bytes().into_iter().chain(count.to_le_bytes())).collect()
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let pairs = bytes.as_chunks::<12>().0.iter();
        let pairs =
            pairs.map(|&[a, b, c, d, count @ ..]| (i32::from_le_bytes([a, b, c, d]), i64::from_le_bytes(count)));
        let (buckets, counts): (Vec<i32>, Vec<i64>) = pairs.unzip();
        Durations::of_columns(&buckets, &counts)
    }

    fn size(&self) -> usize {
        self.buckets() * 32
    }
}

impl Sketch for Distinct {
    fn add_all(&mut self, values: &ArrayRef) -> Result<()> {
        as_fixed_size_binary_array(values)?.iter().flatten().for_each(|id| self.add(id));
        Ok(())
    }

    fn merge_with(&mut self, other: &Self) {
        self.merge(other);
    }

    fn bytes(&self) -> Vec<u8> {
        self.column().iter().flat_map(|it| it.to_le_bytes()).collect()
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let hashes: Vec<i64> = bytes.as_chunks::<8>().0.iter().map(|it| i64::from_le_bytes(*it)).collect();
        Distinct::of_column(&hashes)
    }

    fn size(&self) -> usize {
        self.hashes() * 8
    }
}

fn aggregate<S: Sketch>(name: &str, input: DataType) -> AggregateUDF {
    create_udaf(
        name,
        vec![input],
        Arc::new(DataType::Binary),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::new(SketchAccumulator(S::default())))),
        Arc::new(vec![DataType::Binary]),
    )
}

#[derive(Debug)]
struct SketchAccumulator<S>(S);

impl<S: Sketch> Accumulator for SketchAccumulator<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.iter().try_for_each(|it| self.0.add_all(it))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.0.bytes())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for states in states {
            as_binary_array(states)?.iter().flatten().for_each(|bytes| self.0.merge_with(&S::of_bytes(bytes)));
        }
        Ok(())
    }
}
