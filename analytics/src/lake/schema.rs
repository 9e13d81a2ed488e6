//! The columns of the lake, and rows as Arrow builds them.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Date32Array, FixedSizeBinaryBuilder, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use domain::{Envelope, Topic};
use jiff::Timestamp;
use uuid::Uuid;

use super::counted::{Counted, Label};

/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

/// The days since 1970, in UTC, of an instant in microseconds.
pub fn utc_day(micros: i64) -> i32 {
    i32::try_from(micros.div_euclid(DAY_MICROS)).unwrap_or(i32::MAX)
}

/// The columns, in the order of the files. Instants are naive UTC microseconds: grouping by day is several times
/// slower on timestamps with a zone (apache/datafusion issue 25325).
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let id = DataType::FixedSizeBinary(16);
    let required = |name: &str, data: &DataType| Field::new(name, data.clone(), false);
    let optional = |name: &str, data: &DataType| Field::new(name, data.clone(), true);
    Arc::new(Schema::new(vec![
        required("company_id", &DataType::Int64),
        required("day", &DataType::Date32),
        required("occurred_at", &micros),
        required("received_at", &micros),
        required("event_id", &id),
        required("topic", &DataType::Utf8),
        required("kind", &DataType::Utf8),
        optional("contact_id", &id),
        optional("conversation_id", &id),
        optional("subject_id", &id),
        optional("channel", &DataType::Utf8),
        optional("author", &DataType::Utf8),
        optional("content_type", &DataType::Utf8),
        optional("characters", &DataType::Int64),
        optional("outcome", &DataType::Utf8),
        optional("reason", &DataType::Utf8),
        optional("fact", &DataType::Utf8),
        optional("model", &DataType::Utf8),
        optional("tokens_in", &DataType::Int64),
        optional("tokens_out", &DataType::Int64),
        optional("tokens_cached", &DataType::Int64),
        optional("messages", &DataType::Int64),
        optional("attempts", &DataType::Int64),
        optional("duration_ms", &DataType::Int64),
        optional("feature", &DataType::Utf8),
        optional("threshold", &DataType::Int64),
    ]))
});

/// One event of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    pub company: i64,
    pub occurred_micros: i64,
    pub received_micros: i64,
    pub event: Uuid,
    pub topic: Topic,
    pub kind: &'static str,
    pub counted: Counted,
}

impl EventRow {
    pub fn of(topic: Topic, envelope: &Envelope<Counted>) -> Self {
        EventRow {
            company: envelope.company_id.0,
            occurred_micros: envelope.occurred_at.as_microsecond(),
            received_micros: envelope.received_at.as_microsecond(),
            event: envelope.event_id.0,
            topic,
            kind: envelope.kind.as_str(),
            counted: envelope.payload.clone(),
        }
    }

    /// Its UTC day, in days since 1970.
    pub fn day(&self) -> i32 {
        utc_day(self.occurred_micros)
    }

    /// By company and time; the rest makes the order the same whatever order the events arrived in.
    pub(super) fn sort_key(&self) -> (i64, i64, Uuid, i64) {
        (self.company, self.occurred_micros, self.event, self.received_micros)
    }
}

/// The rows as a batch.
///
/// # Errors
/// If Arrow refuses the arrays, which would be a defect here.
pub fn batch(rows: &[EventRow]) -> Result<RecordBatch, ArrowError> {
    let labels = |of: fn(&Counted) -> Option<&Label>| -> ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(|it| of(&it.counted).map(Label::as_str))))
    };
    let numbers = |of: fn(&Counted) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|it| of(&it.counted)).collect::<Int64Array>())
    };
    let ids = |of: fn(&EventRow) -> Option<Uuid>| ids(rows.iter().map(of));
    let instants = |of: fn(&EventRow) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(of).map(Some).collect::<TimestampMicrosecondArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|it| it.company))),
        Arc::new(Date32Array::from_iter_values(rows.iter().map(EventRow::day))),
        instants(|it| it.occurred_micros),
        instants(|it| it.received_micros),
        ids(|it| Some(it.event))?,
        Arc::new(StringArray::from_iter_values(rows.iter().map(|it| it.topic.as_str()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|it| it.kind))),
        ids(|it| it.counted.contact_id.0)?,
        ids(|it| it.counted.conversation_id.0)?,
        ids(|it| it.counted.subject())?,
        labels(|it| it.channel.as_ref()),
        labels(|it| it.author.as_ref()),
        Arc::new(StringArray::from_iter(rows.iter().map(|it| it.counted.content_type()))),
        numbers(Counted::characters),
        labels(|it| it.outcome.as_ref()),
        labels(|it| it.reason.as_ref().or(it.ignore.as_ref())),
        labels(|it| it.fact.as_ref().or(it.purpose.as_ref())),
        labels(|it| it.model.as_ref()),
        numbers(|it| it.input.0),
        numbers(|it| it.output.0),
        numbers(|it| it.cached.0),
        numbers(|it| it.messages_in.0),
        numbers(|it| it.attempts.0),
        numbers(|it| it.answer_ms.0.or(it.took_ms.0)),
        labels(|it| it.feature.as_ref()),
        numbers(|it| it.threshold.0),
    ];
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns)
}

/// Rows of a query as files hold them: the engine reads texts in another form than they are stored in.
///
/// # Errors
/// If the columns are other ones.
pub fn as_stored(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let fields = SCHEMA.fields().iter().zip(batch.columns());
    let columns = fields.map(|(field, column)| cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns.collect::<Result<_, _>>()?)
}

fn ids(values: impl ExactSizeIterator<Item = Option<Uuid>>) -> Result<ArrayRef, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
    for value in values {
        match value {
            Some(id) => builder.append_value(id.as_bytes())?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The civil date of a number of days since 1970.
///
/// # Errors
/// If it is outside the years that dates can have.
pub fn date(day: i32) -> Result<jiff::civil::Date, jiff::Error> {
    let midnight = Timestamp::from_microsecond(i64::from(day).saturating_mul(DAY_MICROS))?;
    Ok(midnight.to_zoned(jiff::tz::TimeZone::UTC).date())
}

/// The days since 1970 of a civil date.
pub fn day_number(date: jiff::civil::Date) -> i32 {
    let since = date - jiff::civil::Date::constant(1970, 1, 1);
    since.get_days()
}
