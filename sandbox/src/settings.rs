//! The settings of the sandbox that can be changed while it runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::request_log::Target;

/// Latencies and token lifetime in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Milliseconds before a model answers.
    pub model_latency_ms: u64,
    /// Milliseconds before a send answers.
    pub send_latency_ms: u64,
    /// Seconds until a login's token expires. Whaticket's own default is fifteen minutes.
    pub login_ttl_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { model_latency_ms: 0, send_latency_ms: 0, login_ttl_s: 900 }
    }
}

impl Settings {
    pub(crate) fn latency(self, target: Target) -> Duration {
        match target {
            Target::Model => Duration::from_millis(self.model_latency_ms),
            Target::Send => Duration::from_millis(self.send_latency_ms),
            Target::Login | Target::Webhook => Duration::ZERO,
        }
    }
}

/// New values; an absent one stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsChange {
    /// See [`Settings::model_latency_ms`].
    pub model_latency_ms: Option<u64>,
    /// See [`Settings::send_latency_ms`].
    pub send_latency_ms: Option<u64>,
    /// See [`Settings::login_ttl_s`].
    pub login_ttl_s: Option<u64>,
}

impl SettingsChange {
    pub(crate) fn over(self, old: Settings) -> Settings {
        Settings {
            model_latency_ms: self.model_latency_ms.unwrap_or(old.model_latency_ms),
            send_latency_ms: self.send_latency_ms.unwrap_or(old.send_latency_ms),
            login_ttl_s: self.login_ttl_s.unwrap_or(old.login_ttl_s),
        }
    }
}
