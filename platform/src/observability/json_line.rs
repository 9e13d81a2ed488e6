//! A log line as one JSON object: `timestamp`, `level`, the event's own fields, `target`.
//!
//! The same object that `tracing-subscriber` writes when spans are left out and fields flattened, but written directly
//! into one buffer per thread, because every webhook is a line. Spans are neither shown nor looked up.

use std::cell::Cell;
use std::fmt;

use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// Microseconds, always all six digits.
const INSTANT: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

thread_local! {
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Formats events as such lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Taken and put back, not borrowed: a value may itself log something while it is written.
        let mut line = LINE.take();
        line.clear();
        let written = write(&mut line, event).and_then(|()| match str::from_utf8(&line) {
            Ok(text) => writer.write_str(text),
            Err(_) => Err(fmt::Error),
        });
        LINE.set(line);
        written
    }
}

fn write(line: &mut Vec<u8>, event: &Event<'_>) -> fmt::Result {
    line.extend_from_slice(br#"{"timestamp":""#);
    INSTANT.print_timestamp(&clock::now(), &mut *line).map_err(|_| fmt::Error)?;
    line.extend_from_slice(br#"","level":""#);
    line.extend_from_slice(event.metadata().level().as_str().as_bytes());
    line.push(b'"');
    let mut fields = Fields { line, written: Ok(()) };
    event.record(&mut fields);
    fields.put("target", event.metadata().target());
    fields.written.map_err(|_| fmt::Error)?;
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// The members of the object. Nothing is added after one that could not be written.
struct Fields<'a> {
    line: &'a mut Vec<u8>,
    written: serde_json::Result<()>,
}

impl Fields<'_> {
    fn put(&mut self, name: &str, value: impl Serialize) {
        if self.written.is_ok() {
            self.line.push(b',');
            self.written = self.json(name).and_then(|()| {
                self.line.push(b':');
                self.json(value)
            });
        }
    }

    fn json(&mut self, value: impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(&mut *self.line, &value)
    }
}

impl Visit for Fields<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    /// All other types, as text.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{fmt, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct CapturedOutput(Arc<Mutex<Vec<u8>>>);

    impl Write for CapturedOutput {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl CapturedOutput {
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            assert!(text.ends_with('\n'));
            text.lines().map(str::to_owned).collect()
        }
    }

    /// The same events as lines of this formatter and of `tracing-subscriber`.
    fn both(log: impl FnOnce()) -> (Vec<String>, Vec<String>) {
        let (ours, theirs) = (CapturedOutput::default(), CapturedOutput::default());
        let (our, their) = (ours.clone(), theirs.clone());
        let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        let subscriber = registry()
            .with(fmt::layer().event_format(JsonLine).with_writer(move || our.clone()))
            .with(json.with_writer(move || their.clone()));
        tracing::subscriber::with_default(subscriber, log);
        (ours.lines(), theirs.lines())
    }

    fn parsed(line: &str) -> Value {
        serde_json::from_str(line).unwrap_or_else(|problem| panic!("{line}: {problem}"))
    }

    /// The line without the value of its timestamp, which must be a valid one.
    fn without_timestamp(line: &str) -> String {
        let instant = parsed(line)["timestamp"].as_str().unwrap().to_owned();
        assert!(instant.parse::<jiff::Timestamp>().is_ok() && instant.ends_with('Z'), "{instant}");
        assert_eq!(instant.len(), "2026-03-15T12:00:00.000000Z".len(), "{instant}");
        line.replacen(&instant, "", 1)
    }

    #[test]
    fn a_line_is_the_one_that_tracing_subscriber_writes() {
        let (ours, theirs) = both(|| {
            let _span = tracing::info_span!("task", task = "relay").entered();
            tracing::info!(
                correlation_id = "4bf9",
                company_id = 42_i64,
                status = 202,
                duration_us = u64::MAX,
                "accepted"
            );
            tracing::warn!(event = %"id-1", cause = ?Some("busy"), ratio = 0.5, whole = 2.0, odd = f64::NAN, late = true);
            tracing::error!(target: "librdkafka", below = i64::MIN, wide = u128::MAX, bytes = &b"\x00\xff"[..], "a {}", 1);
            let missing = std::io::Error::other("no disk");
            tracing::debug!(error = &missing as &dyn std::error::Error, nothing = None::<i64>, some = Some(7), "went");
            tracing::trace!(r#type = 1, "odd \"name\"\n" = 2, a.dotted = 3, empty = "");
            tracing::info!("");
        });
        assert_eq!((ours.len(), theirs.len()), (6, 6), "{ours:#?} {theirs:#?}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let (mut our, mut their) = (parsed(ours), parsed(theirs));
            our["timestamp"].take();
            their["timestamp"].take();
            assert_eq!(our, their);
            assert_eq!(without_timestamp(ours), without_timestamp(theirs), "in the same order, written alike");
        }
        assert_eq!(parsed(&ours[0])["duration_us"], json!(u64::MAX), "numbers are bare");
    }

    #[test]
    fn any_logged_text_is_one_line_and_is_parsed_back_unchanged() {
        let control: String = (0..0x20).map(char::from).chain(['\u{7f}', '\u{85}', '\u{2028}', '\u{feff}']).collect();
        for hostile in
            ["\"", "\\", "\n{\"level\":\"INFO\"}\n", "\",\"level\":\"ERROR", "\r\t\0", "Olá 🦷", "\\u0000", &control]
        {
            let (lines, _) = both(|| {
                tracing::info!(text = hostile, shown = %hostile, debugged = ?hostile, "{}", hostile);
                tracing::info!("next");
            });
            assert_eq!(lines.len(), 2, "{lines:?}");
            let line = parsed(&lines[0]);
            for name in ["text", "shown", "message"] {
                assert_eq!(line[name], hostile, "{name}");
            }
            assert_eq!(line["debugged"], format!("{hostile:?}"));
            assert_eq!(line["level"], "INFO");
            assert_eq!(line["target"], module_path!());
        }
    }
}
