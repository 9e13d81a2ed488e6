//! Logs as JSON lines and metrics as Prometheus text.
//!
//! A log line never holds a body, a number or a token: what is logged is an id, a count, a duration, a reason.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::json_line::JsonLine;
use super::log_writer::LogWriter;
use crate::task::Stop;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is logged, in the filter syntax of `tracing-subscriber`.
    pub log: String,
    pub format: Format,
    /// Companies that have a metric label of their own; all others share `other`.
    pub labelled_companies: usize,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For a person at a terminal.
    Text,
}

impl Default for Config {
    fn default() -> Self {
        Config { log: "info,librdkafka=error,rdkafka=error".into(), format: Format::Json, labelled_companies: 100 }
    }
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `telemetry.log` is no filter.
    #[error("setting `telemetry.log` is not a filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A subscriber is installed already.
    #[error("logging is already set up")]
    Twice,
    /// The thread that writes log lines could not be started.
    #[error("the thread that writes log lines cannot be started")]
    Thread(#[source] std::io::Error),
    /// The recorder could not be installed.
    #[error("metrics cannot be recorded")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
}

/// What was set up. Dropping it writes out the last log lines.
#[derive(Debug)]
pub struct Telemetry {
    pub recorder: PrometheusHandle,
    _log: LogWriter,
}

/// Sets up logs to standard error and the metrics recorder; once per process.
///
/// # Errors
/// If the filter is malformed, or telemetry was set up before.
pub fn start(config: &Config) -> Result<Telemetry, Error> {
    let written = LogWriter::to(std::io::stderr()).map_err(Error::Thread)?;
    let lines = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(&config.log)?).with_writer(written.sink());
    match config.format {
        Format::Json => lines.event_format(JsonLine).try_init(),
        Format::Text => lines.compact().try_init(),
    }
    .map_err(|_| Error::Twice)?;
    let recorder = recorder()?;
    crate::metric::describe(config.labelled_companies);
    Ok(Telemetry { recorder, _log: written })
}

/// Drains the recorder's histogram samples regularly until stopped; they would use ever more memory otherwise.
pub async fn run_upkeep(recorder: PrometheusHandle, stop: Stop) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(5)) => recorder.run_upkeep(),
        }
    }
}

/// Installs the recorder alone, for tests that read metrics.
///
/// # Errors
/// If one is installed already.
pub fn recorder() -> Result<PrometheusHandle, Error> {
    const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install_recorder()?)
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |it| it.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
