//! The settings of the whole program: each room's own, nested under the room's name.

use std::path::{Path, PathBuf};

use platform::settings::Error;
use platform::{http, kafka, postgres, relay, telemetry};
use serde::{Deserialize, Serialize};

/// Everything that can be set, with defaults that fit the local stack.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The listener.
    pub http: http::Config,
    /// The broker.
    pub kafka: kafka::Config,
    /// The database.
    pub postgres: postgres::Config,
    /// Key files.
    pub keys: Keys,
    /// This process.
    pub process: Process,
    /// Logs and metrics.
    pub telemetry: telemetry::Config,
    /// The outbox relay.
    pub outbox: relay::Config,
    /// Room 1.
    pub ingest: ingest::Config,
    /// The reply processor.
    pub reply: processors::reply::Config,
    /// The delivery processor.
    pub delivery: processors::delivery::Config,
    /// The alerts processor.
    pub alerts: processors::alerts::Config,
    /// Room 4.
    pub api: api::Config,
}

/// Settings `keys.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The folder of `kek.hex` (opens the companies' secrets) and `signing.key` (signs API tokens).
    pub dir: PathBuf,
}

impl Default for Keys {
    fn default() -> Self {
        Keys { dir: ".local/keys".into() }
    }
}

impl Keys {
    /// The key-encryption key's file.
    pub fn key_encryption_key(&self) -> PathBuf {
        self.dir.join(api::keys::KEY_ENCRYPTION_KEY)
    }

    /// The signing key's file.
    pub fn signing_key(&self) -> PathBuf {
        self.dir.join(api::keys::SIGNING_KEY)
    }
}

/// Settings `process.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// This process's name among those that run the same roles: stable over restarts, unlike any other's.
    pub instance: String,
}

impl Default for Process {
    fn default() -> Self {
        Process { instance: "one".into() }
    }
}

impl Settings {
    /// Reads and checks everything, before any port is bound.
    ///
    /// # Errors
    /// Names the setting that is unknown, has the wrong type, or makes no sense.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let settings: Settings = platform::settings::load(file)?;
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> Result<(), Error> {
        self.http.validate()?;
        self.kafka.validate()?;
        self.postgres.validate()?;
        self.outbox.validate()?;
        self.ingest.validate()?;
        self.reply.validate()?;
        // The key is asked for where `reply` runs, and nowhere else.
        self.reply.model.validate_shape()?;
        self.reply.runner.validate("reply.runner")?;
        self.delivery.validate()?;
        self.delivery.runner.validate("delivery.runner")?;
        self.alerts.validate()?;
        self.alerts.runner.validate("alerts.runner")?;
        self.api.validate()?;
        let instance = &self.process.instance;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if instance.is_empty() || instance.len() > 100 || !instance.chars().all(plain) {
            let problem = "1 to 100 letters, digits, dots, dashes and underscores";
            return Err(Error::senseless("process.instance", problem));
        }
        Ok(())
    }
}
