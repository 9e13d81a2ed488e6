//! What operators see of the process: logs, metrics, traces, health and heartbeats.

pub mod health;
pub mod heartbeat;
mod json_line;
mod log_writer;
pub mod metric;
pub mod telemetry;
pub mod trace;
